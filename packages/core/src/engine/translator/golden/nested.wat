;; 0000  li a2,10
;; 0004  addi a2,a2,-1
;; 0008  add a1,a1,a2
;; 000c  bnez a2,0x4
;; 0010  addi a0,a0,-1
;; 0014  bgez a0,0x0
;; 0018  ret

(if
  (i32.lt_s (local.get $budget) (i32.const 1))
  (then
    (i64.store offset=pc (global.get $area) (local.get $pc))
    (i32.store offset=budget (global.get $area) (local.get $budget))
    (return (i32.const -1))))
(local.set $l0 (i32.load offset=dataTable (global.get $area)))
(local.set $x10 (i64.load offset=x10 (global.get $area)))
(local.set $x11 (i64.load offset=x11 (global.get $area)))
(local.set $x12 (i64.load offset=x12 (global.get $area)))
(block
  (block $block0
    (loop $loop1
      (if
        (i32.lt_s (local.get $budget) (i32.const 1))
        (then
          (i64.store offset=pc (global.get $area) (local.get $pc))
          (i32.store offset=budget (global.get $area) (local.get $budget))
          (local.set $l1 (i32.const 7168))
          (br $block0)))
      (local.set $budget (i32.sub (local.get $budget) (i32.const 1)))
      (local.set $x12 (i64.const 10))
      (i64.store offset=x10 (global.get $area) (local.get $x10))
      (loop $loop2
        (if
          (i32.lt_s (local.get $budget) (i32.const 6))
          (then
            (i64.store offset=pc (global.get $area) (i64.add (local.get $pc) (i64.const 4)))
            (i32.store offset=budget (global.get $area) (local.get $budget))
            (local.set $l1 (i32.const 6144))
            (br $block0)))
        (local.set $budget (i32.sub (local.get $budget) (i32.const 3)))
        (local.set $x12 (i64.add (local.get $x12) (i64.const -1)))
        (local.set $x11 (i64.add (local.get $x11) (local.get $x12)))
        (if
          (i64.ne (local.get $x12) (i64.const 0))
          (then
            (br $loop2))
          (else
            (local.set $x10 (i64.load offset=x10 (global.get $area)))
            (local.set $budget (i32.sub (local.get $budget) (i32.const 2)))
            (local.set $x10 (i64.add (local.get $x10) (i64.const -1)))
            (if
              (i64.ge_s (local.get $x10) (i64.const 0))
              (then
                (br $loop1))
              (else
                (local.set $x1 (i64.load offset=x1 (global.get $area)))
                (local.set $budget (i32.sub (local.get $budget) (i32.const 1)))
                (local.set $l2 (i64.and (local.get $x1) (i64.const -2)))
                (local.set $l3 (local.get $l2))
                (i64.store offset=x10 (global.get $area) (local.get $x10))
                (i64.store offset=x11 (global.get $area) (local.get $x11))
                (i64.store offset=x12 (global.get $area) (local.get $x12))
                (i64.store offset=pc (global.get $area) (local.get $l3))
                (return (local.get $budget))))))))
    (unreachable))
  (if
    (i32.and (local.get $l1) (i32.const 2))
    (then
      (i64.store offset=x1 (global.get $area) (local.get $x1))))
  (if
    (i32.and (local.get $l1) (i32.const 1024))
    (then
      (i64.store offset=x10 (global.get $area) (local.get $x10))))
  (if
    (i32.and (local.get $l1) (i32.const 2048))
    (then
      (i64.store offset=x11 (global.get $area) (local.get $x11))))
  (if
    (i32.and (local.get $l1) (i32.const 4096))
    (then
      (i64.store offset=x12 (global.get $area) (local.get $x12))))
  (return (i32.const -1)))
(local.set $l4
  (i32.add
    (i32.load offset=fetchTable (global.get $area))
    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l3)) (i32.const 8)) (i32.const 16368))))
(if
  (i64.lt_u (i64.xor (local.get $l3) (i64.load (local.get $l4))) (i64.const 4096))
  (then
    (local.set $l5
      (i32.add
        (i32.load offset=8 (local.get $l4))
        (i32.shl (i32.and (i32.wrap_i64 (local.get $l3)) (i32.const 4094)) (i32.const 2))))
    (if
      (i32.eq (i32.load (local.get $l5)) (i32.const 5))
      (then
        (return_call_indirect
          (local.get $l3)
          (local.get $budget)
          (local.get $depth)
          (i32.load offset=4 (local.get $l5)))))))
(i64.store offset=pc (global.get $area) (local.get $l3))
(return (local.get $budget))
