;; 0000  jalr 4(a4)
;; 0004  addi a0,a0,1
;; 0008  jr a3

(if
  (i32.lt_s (local.get $budget) (i32.const 1))
  (then
    (i64.store offset=pc (global.get $area) (local.get $pc))
    (i32.store offset=budget (global.get $area) (local.get $budget))
    (return (i32.const -1))))
(local.set $l0 (i32.load offset=dataTable (global.get $area)))
(local.set $x10 (i64.load offset=x10 (global.get $area)))
(local.set $x14 (i64.load offset=x14 (global.get $area)))
(block $block0
  (block $block1
    (loop $loop2
      (if
        (i32.lt_s (local.get $budget) (i32.const 1))
        (then
          (i64.store offset=pc (global.get $area) (local.get $pc))
          (i32.store offset=budget (global.get $area) (local.get $budget))
          (local.set $l1 (i32.const 1024))
          (br $block1)))
      (local.set $budget (i32.sub (local.get $budget) (i32.const 1)))
      (local.set $l2 (i64.and (i64.add (local.get $x14) (i64.const 4)) (i64.const -2)))
      (local.set $l3 (local.get $l2))
      (local.set $x1 (i64.add (local.get $pc) (i64.const 4)))
      (i64.store offset=x1 (global.get $area) (local.get $x1))
      (i64.store offset=x10 (global.get $area) (local.get $x10))
      (block $block3
        (if
          (i32.lt_u (local.get $depth) (i32.const 96))
          (then
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
                    (local.set $budget
                      (call_indirect
                        (local.get $l3)
                        (local.get $budget)
                        (i32.add (local.get $depth) (i32.const 1))
                        (i32.load offset=4 (local.get $l5))))
                    (br $block3)))))))
        (i64.store offset=pc (global.get $area) (local.get $l3))
        (return (local.get $budget)))
      (if
        (i32.lt_s (local.get $budget) (i32.const 2))
        (then
          (if
            (i32.and
              (i32.ge_s (local.get $budget) (i32.const 0))
              (i64.eq (i64.load offset=pc (global.get $area)) (i64.add (local.get $pc) (i64.const 4))))
            (then
              (i32.store offset=budget (global.get $area) (local.get $budget))
              (return (i32.const -1))))
          (return (local.get $budget))))
      (if
        (i32.eqz (i64.eq (i64.load offset=pc (global.get $area)) (i64.add (local.get $pc) (i64.const 4))))
        (then
          (return (local.get $budget))))
      (local.set $l0 (i32.load offset=dataTable (global.get $area)))
      (local.set $x10 (i64.load offset=x10 (global.get $area)))
      (local.set $x13 (i64.load offset=x13 (global.get $area)))
      (local.set $x14 (i64.load offset=x14 (global.get $area)))
      (local.set $budget (i32.sub (local.get $budget) (i32.const 2)))
      (local.set $x10 (i64.add (local.get $x10) (i64.const 1)))
      (local.set $l2 (i64.and (local.get $x13) (i64.const -2)))
      (local.set $l3 (local.get $l2))
      (if
        (i64.eq (local.get $l3) (local.get $pc))
        (then
          (br $loop2)))
      (i64.store offset=x10 (global.get $area) (local.get $x10))
      (br $block0))
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
    (i32.and (local.get $l1) (i32.const 8192))
    (then
      (i64.store offset=x13 (global.get $area) (local.get $x13))))
  (if
    (i32.and (local.get $l1) (i32.const 16384))
    (then
      (i64.store offset=x14 (global.get $area) (local.get $x14))))
  (return (i32.const -1)))
(local.set $l5
  (i32.add
    (i32.load offset=fetchTable (global.get $area))
    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l3)) (i32.const 8)) (i32.const 16368))))
(if
  (i64.lt_u (i64.xor (local.get $l3) (i64.load (local.get $l5))) (i64.const 4096))
  (then
    (local.set $l4
      (i32.add
        (i32.load offset=8 (local.get $l5))
        (i32.shl (i32.and (i32.wrap_i64 (local.get $l3)) (i32.const 4094)) (i32.const 2))))
    (if
      (i32.eq (i32.load (local.get $l4)) (i32.const 5))
      (then
        (return_call_indirect
          (local.get $l3)
          (local.get $budget)
          (local.get $depth)
          (i32.load offset=4 (local.get $l4)))))))
(i64.store offset=pc (global.get $area) (local.get $l3))
(return (local.get $budget))
