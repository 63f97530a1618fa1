;; 0000  ld a0,0(a2)
;; 0004  ld a1,8(a2)
;; 0008  sd a0,16(a2)
;; 000c  ecall

(if
  (i32.lt_s (local.get $budget) (i32.const 3))
  (then
    (i64.store offset=pc (global.get $area) (local.get $pc))
    (i32.store offset=budget (global.get $area) (local.get $budget))
    (return (i32.const -1))))
(local.set $l0 (i32.load offset=dataTable (global.get $area)))
(local.set $x12 (i64.load offset=x12 (global.get $area)))
(block $block0
  (block $block1
    (local.set $budget (i32.sub (local.get $budget) (i32.const 3)))
    (local.set $l1 (local.get $x12))
    (local.set $l2
      (i32.add
        (local.get $l0)
        (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l1)) (i32.const 7)) (i32.const 32736))))
    (local.set $l3
      (select
        (i32.add (i32.wrap_i64 (local.get $l1)) (i32.load offset=16 (local.get $l2)))
        (i32.const 0)
        (i32.and
          (i64.lt_u (i64.xor (local.get $l1) (i64.load (local.get $l2))) (i64.const 4073))
          (i64.lt_u (i64.xor (local.get $l1) (i64.load offset=8 (local.get $l2))) (i64.const 4073)))))
    (if
      (local.get $l3)
      (then
        (local.set $l4 (i64.load (local.get $l3))))
      (else
        (local.set $l4
          (call $loadMiss
            (local.get $x12)
            (i32.const 8)
            (local.get $pc)
            (i32.add (local.get $budget) (i32.const 2))
            (i32.const 4)))
        (if
          (i32.load offset=unwind (global.get $area))
          (then
            (if
              (i32.eq (i32.load offset=unwind (global.get $area)) (i32.const 2))
              (then
                (local.set $x10 (local.get $l4))
                (local.set $l5 (i32.const 1024))
                (br $block1)))
            (local.set $l5 (i32.const 0))
            (br $block1)))
        (local.set $l3 (i32.const 0))))
    (local.set $x10 (local.get $l4))
    (if
      (local.get $l3)
      (then
        (local.set $l1 (i64.load offset=8 (local.get $l3))))
      (else
        (local.set $l1
          (call $loadMiss
            (i64.add (local.get $x12) (i64.const 8))
            (i32.const 8)
            (i64.add (local.get $pc) (i64.const 4))
            (i32.add (local.get $budget) (i32.const 1))
            (i32.const 4)))
        (if
          (i32.load offset=unwind (global.get $area))
          (then
            (if
              (i32.eq (i32.load offset=unwind (global.get $area)) (i32.const 2))
              (then
                (local.set $x11 (local.get $l1))
                (local.set $l5 (i32.const 3072))
                (br $block1)))
            (local.set $l5 (i32.const 1024))
            (br $block1)))
        (local.set $l3 (i32.const 0))))
    (local.set $x11 (local.get $l1))
    (if
      (local.get $l3)
      (then
        (i64.store offset=16 (local.get $l3) (local.get $x10)))
      (else
        (if
          (call $storeMiss
            (i64.add (local.get $x12) (i64.const 16))
            (i32.const 8)
            (local.get $x10)
            (i64.add (local.get $pc) (i64.const 8))
            (local.get $budget)
            (i32.const 4))
          (then
            (local.set $l5 (i32.const 3072))
            (br $block1)))
        (local.set $l3 (i32.const 0))))
    (i64.store offset=x10 (global.get $area) (local.get $x10))
    (i64.store offset=x11 (global.get $area) (local.get $x11))
    (local.set $l6 (i64.add (local.get $pc) (i64.const 12)))
    (br $block0)
    (unreachable))
  (if
    (i32.and (local.get $l5) (i32.const 1024))
    (then
      (i64.store offset=x10 (global.get $area) (local.get $x10))))
  (if
    (i32.and (local.get $l5) (i32.const 2048))
    (then
      (i64.store offset=x11 (global.get $area) (local.get $x11))))
  (if
    (i32.and (local.get $l5) (i32.const 4096))
    (then
      (i64.store offset=x12 (global.get $area) (local.get $x12))))
  (return (i32.const -1)))
(local.set $l2
  (i32.add
    (i32.load offset=fetchTable (global.get $area))
    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l6)) (i32.const 8)) (i32.const 16368))))
(if
  (i64.lt_u (i64.xor (local.get $l6) (i64.load (local.get $l2))) (i64.const 4096))
  (then
    (local.set $l7
      (i32.add
        (i32.load offset=8 (local.get $l2))
        (i32.shl (i32.and (i32.wrap_i64 (local.get $l6)) (i32.const 4094)) (i32.const 2))))
    (if
      (i32.eq (i32.load (local.get $l7)) (i32.const 5))
      (then
        (return_call_indirect
          (local.get $l6)
          (local.get $budget)
          (local.get $depth)
          (i32.load offset=4 (local.get $l7)))))))
(i64.store offset=pc (global.get $area) (local.get $l6))
(return (local.get $budget))
