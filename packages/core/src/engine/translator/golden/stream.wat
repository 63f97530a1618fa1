;; 0000  lbu a2,0(a0)
;; 0004  addi a0,a0,1
;; 0008  add a3,a3,a2
;; 000c  bne a0,a1,0x0
;; 0010  ecall

(if
  (i32.lt_s (local.get $budget) (i32.const 4))
  (then
    (i64.store offset=pc (global.get $area) (local.get $pc))
    (i32.store offset=budget (global.get $area) (local.get $budget))
    (return (i32.const -1))))
(local.set $l0 (i32.load offset=dataTable (global.get $area)))
(local.set $x10 (i64.load offset=x10 (global.get $area)))
(local.set $x11 (i64.load offset=x11 (global.get $area)))
(local.set $x12 (i64.load offset=x12 (global.get $area)))
(local.set $x13 (i64.load offset=x13 (global.get $area)))
(local.set $l1
  (i32.add
    (local.get $l0)
    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $x10)) (i32.const 7)) (i32.const 32736))))
(local.set $l2 (i64.load (local.get $l1)))
(local.set $l3
  (select
    (local.get $l2)
    (i64.const 2048)
    (i64.lt_u (i64.xor (local.get $x10) (local.get $l2)) (i64.const 4096))))
(local.set $l4 (i32.load offset=16 (local.get $l1)))
(block $block0
  (block $block1
    (loop $loop2
      (if
        (i32.lt_s (local.get $budget) (i32.const 4))
        (then
          (i64.store offset=pc (global.get $area) (local.get $pc))
          (i32.store offset=budget (global.get $area) (local.get $budget))
          (local.set $l5 (i32.const 13312))
          (br $block1)))
      (local.set $budget (i32.sub (local.get $budget) (i32.const 4)))
      (local.set $l6 (local.get $x10))
      (block $block3
        (if
          (i64.ne (i64.and (local.get $l6) (i64.const -4096)) (local.get $l3))
          (then
            (local.set $l1
              (i32.add
                (local.get $l0)
                (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l6)) (i32.const 7)) (i32.const 32736))))
            (if
              (i32.eqz (i64.lt_u (i64.xor (local.get $l6) (i64.load (local.get $l1))) (i64.const 4096)))
              (then
                (local.set $l2
                  (call $loadMiss
                    (local.get $l6)
                    (i32.const 1)
                    (local.get $pc)
                    (i32.add (local.get $budget) (i32.const 3))
                    (i32.const 4)))
                (if
                  (i32.load offset=unwind (global.get $area))
                  (then
                    (if
                      (i32.eq (i32.load offset=unwind (global.get $area)) (i32.const 2))
                      (then
                        (local.set $x12 (local.get $l2))
                        (local.set $l5 (i32.const 13312))
                        (br $block1)))
                    (local.set $l5 (i32.const 13312))
                    (br $block1)))
                (local.set $l3 (i64.const 2048))
                (br $block3)))
            (local.set $l4 (i32.load offset=16 (local.get $l1)))
            (local.set $l3 (i64.and (local.get $l6) (i64.const -4096)))))
        (local.set $l2 (i64.load8_u (i32.add (i32.wrap_i64 (local.get $l6)) (local.get $l4)))))
      (local.set $x12 (local.get $l2))
      (local.set $x10 (i64.add (local.get $x10) (i64.const 1)))
      (local.set $x13 (i64.add (local.get $x13) (local.get $x12)))
      (if
        (i64.ne (local.get $x10) (local.get $x11))
        (then
          (br $loop2))
        (else
          (i64.store offset=x10 (global.get $area) (local.get $x10))
          (i64.store offset=x12 (global.get $area) (local.get $x12))
          (i64.store offset=x13 (global.get $area) (local.get $x13))
          (local.set $l7 (i64.add (local.get $pc) (i64.const 16)))
          (br $block0))))
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
  (if
    (i32.and (local.get $l5) (i32.const 8192))
    (then
      (i64.store offset=x13 (global.get $area) (local.get $x13))))
  (return (i32.const -1)))
(local.set $l1
  (i32.add
    (i32.load offset=fetchTable (global.get $area))
    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l7)) (i32.const 8)) (i32.const 16368))))
(if
  (i64.lt_u (i64.xor (local.get $l7) (i64.load (local.get $l1))) (i64.const 4096))
  (then
    (local.set $l8
      (i32.add
        (i32.load offset=8 (local.get $l1))
        (i32.shl (i32.and (i32.wrap_i64 (local.get $l7)) (i32.const 4094)) (i32.const 2))))
    (if
      (i32.eq (i32.load (local.get $l8)) (i32.const 5))
      (then
        (return_call_indirect
          (local.get $l7)
          (local.get $budget)
          (local.get $depth)
          (i32.load offset=4 (local.get $l8)))))))
(i64.store offset=pc (global.get $area) (local.get $l7))
(return (local.get $budget))
