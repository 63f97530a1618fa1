;; 0ffa  addi a0,a0,1
;; 0ffe  addi a0,a0,2
;; 1002  addi a0,a0,3
;; 1006  ecall

(if
  (i32.lt_s (local.get $budget) (i32.const 3))
  (then
    (i64.store offset=pc (global.get $area) (local.get $pc))
    (i32.store offset=budget (global.get $area) (local.get $budget))
    (return (i32.const -1))))
(local.set $l0 (i64.add (i64.and (local.get $pc) (i64.const -4096)) (i64.const 4096)))
(local.set $l1
  (i32.add
    (i32.load offset=fetchTable (global.get $area))
    (i32.and (i32.wrap_i64 (i64.shr_u (local.get $l0) (i64.const 8))) (i32.const 16368))))
(local.set $l2 (i32.load offset=8 (local.get $l1)))
(local.set $l3 (i32.add (global.get $area) (i32.shl (global.get $place) (i32.const 5))))
(if
  (i32.or
    (i64.ne (i64.load (local.get $l1)) (local.get $l0))
    (i32.or
      (i32.ne (i32.load offset=13631512 (local.get $l3)) (local.get $l2))
      (i32.ne (i32.load offset=13631516 (local.get $l3)) (i32.load offset=16400 (local.get $l2)))))
  (then
    (i64.store offset=pc (global.get $area) (local.get $pc))
    (i32.store offset=budget (global.get $area) (local.get $budget))
    (return (i32.const -1))))
(local.set $l4 (i32.load offset=dataTable (global.get $area)))
(local.set $x10 (i64.load offset=x10 (global.get $area)))
(block $block0
  (block
    (local.set $budget (i32.sub (local.get $budget) (i32.const 3)))
    (local.set $x10 (i64.add (local.get $x10) (i64.const 1)))
    (local.set $x10 (i64.add (local.get $x10) (i64.const 2)))
    (local.set $x10 (i64.add (local.get $x10) (i64.const 3)))
    (i64.store offset=x10 (global.get $area) (local.get $x10))
    (local.set $l5 (i64.add (local.get $pc) (i64.const 12)))
    (br $block0)
    (unreachable))
  (if
    (i32.and (local.get $l6) (i32.const 1024))
    (then
      (i64.store offset=x10 (global.get $area) (local.get $x10))))
  (return (i32.const -1)))
(local.set $l7
  (i32.add
    (i32.load offset=fetchTable (global.get $area))
    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l5)) (i32.const 8)) (i32.const 16368))))
(if
  (i64.lt_u (i64.xor (local.get $l5) (i64.load (local.get $l7))) (i64.const 4096))
  (then
    (local.set $l8
      (i32.add
        (i32.load offset=8 (local.get $l7))
        (i32.shl (i32.and (i32.wrap_i64 (local.get $l5)) (i32.const 4094)) (i32.const 2))))
    (if
      (i32.eq (i32.load (local.get $l8)) (i32.const 5))
      (then
        (return_call_indirect
          (local.get $l5)
          (local.get $budget)
          (local.get $depth)
          (i32.load offset=4 (local.get $l8)))))))
(i64.store offset=pc (global.get $area) (local.get $l5))
(return (local.get $budget))
