;; 0000  bnez a0,0xc
;; 0004  addi a1,a1,1
;; 0008  j 0x10
;; 000c  addi a1,a1,-1
;; 0010  slli a1,a1,0x3
;; 0014  ret

(if
  (i32.lt_s (local.get $budget) (i32.const 5))
  (then
    (i64.store offset=pc (global.get $area) (local.get $pc))
    (i32.store offset=budget (global.get $area) (local.get $budget))
    (return (i32.const -1))))
(local.set $l0 (i32.load offset=dataTable (global.get $area)))
(local.set $x1 (i64.load offset=x1 (global.get $area)))
(local.set $x10 (i64.load offset=x10 (global.get $area)))
(local.set $x11 (i64.load offset=x11 (global.get $area)))
(block
  (block
    (block $block0
      (local.set $budget (i32.sub (local.get $budget) (i32.const 1)))
      (if
        (i64.ne (local.get $x10) (i64.const 0))
        (then
          (local.set $budget (i32.sub (local.get $budget) (i32.const 1)))
          (local.set $x11 (i64.add (local.get $x11) (i64.const -1)))
          (br $block0))
        (else
          (local.set $budget (i32.sub (local.get $budget) (i32.const 2)))
          (local.set $x11 (i64.add (local.get $x11) (i64.const 1)))
          (br $block0))))
    (local.set $budget (i32.sub (local.get $budget) (i32.const 2)))
    (local.set $x11 (i64.shl (local.get $x11) (i64.const 3)))
    (local.set $l1 (i64.and (local.get $x1) (i64.const -2)))
    (local.set $l2 (local.get $l1))
    (i64.store offset=x11 (global.get $area) (local.get $x11))
    (i64.store offset=pc (global.get $area) (local.get $l2))
    (return (local.get $budget))
    (unreachable))
  (if
    (i32.and (local.get $l3) (i32.const 2))
    (then
      (i64.store offset=x1 (global.get $area) (local.get $x1))))
  (if
    (i32.and (local.get $l3) (i32.const 1024))
    (then
      (i64.store offset=x10 (global.get $area) (local.get $x10))))
  (if
    (i32.and (local.get $l3) (i32.const 2048))
    (then
      (i64.store offset=x11 (global.get $area) (local.get $x11))))
  (return (i32.const -1)))
(local.set $l4
  (i32.add
    (i32.load offset=fetchTable (global.get $area))
    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l2)) (i32.const 8)) (i32.const 16368))))
(if
  (i64.lt_u (i64.xor (local.get $l2) (i64.load (local.get $l4))) (i64.const 4096))
  (then
    (local.set $l5
      (i32.add
        (i32.load offset=8 (local.get $l4))
        (i32.shl (i32.and (i32.wrap_i64 (local.get $l2)) (i32.const 4094)) (i32.const 2))))
    (if
      (i32.eq (i32.load (local.get $l5)) (i32.const 5))
      (then
        (return_call_indirect
          (local.get $l2)
          (local.get $budget)
          (local.get $depth)
          (i32.load offset=4 (local.get $l5)))))))
(i64.store offset=pc (global.get $area) (local.get $l2))
(return (local.get $budget))
