;; 0000  fadd.d ft1,ft1,ft2
;; 0004  fmadd.s ft3,ft1,ft2,ft3,rne
;; 0008  ecall

(if
  (i32.lt_s (local.get $budget) (i32.const 2))
  (then
    (i64.store offset=pc (global.get $area) (local.get $pc))
    (i32.store offset=budget (global.get $area) (local.get $budget))
    (return (i32.const -1))))
(local.set $l0 (i32.load offset=dataTable (global.get $area)))
(local.set $l1
  (i32.and
    (i64.eq (i64.and (i64.load offset=mstatus (global.get $area)) (i64.const 24576)) (i64.const 24576))
    (i32.le_u (i32.load offset=frm (global.get $area)) (i32.const 4))))
(local.set $l2
  (select
    (i32.const 2016)
    (i32.const 0)
    (i32.and
      (i32.and (local.get $l1) (i32.eqz (i32.load offset=frm (global.get $area))))
      (i32.load offset=fflags (global.get $area)))))
(local.set $l3 (f64.reinterpret_i64 (i64.shl (i64.extend_i32_u (local.get $l2)) (i64.const 52))))
(local.set $f1 (i64.load offset=f1 (global.get $area)))
(local.set $f2 (i64.load offset=f2 (global.get $area)))
(local.set $f3 (i64.load offset=f3 (global.get $area)))
(block $block0
  (block $block1
    (local.set $budget (i32.sub (local.get $budget) (i32.const 2)))
    (if
      (i32.eqz (local.get $l1))
      (then
        (i64.store offset=pc (global.get $area) (local.get $pc))
        (i32.store offset=budget
          (global.get $area)
          (i32.add (i32.add (local.get $budget) (i32.const 1)) (i32.const 1)))
        (local.set $l4 (i32.const 0))
        (local.set $l5 (i32.const 0))
        (br $block1)))
    (local.set $l6 (local.get $f1))
    (local.set $l7 (local.get $f2))
    (local.set $l8 (f64.add (f64.reinterpret_i64 (local.get $l6)) (f64.reinterpret_i64 (local.get $l7))))
    (if
      (i32.eqz (f64.lt (f64.abs (local.get $l8)) (local.get $l3)))
      (then
        (local.set $l8
          (f64.reinterpret_i64
            (call $f64Add (local.get $l6) (local.get $l7) (i32.load offset=frm (global.get $area)))))
        (local.set $l1
          (i32.and
            (i64.eq
              (i64.and (i64.load offset=mstatus (global.get $area)) (i64.const 24576))
              (i64.const 24576))
            (i32.le_u (i32.load offset=frm (global.get $area)) (i32.const 4))))
        (local.set $l2
          (select
            (i32.const 2016)
            (i32.const 0)
            (i32.and
              (i32.and (local.get $l1) (i32.eqz (i32.load offset=frm (global.get $area))))
              (i32.load offset=fflags (global.get $area)))))
        (local.set $l3 (f64.reinterpret_i64 (i64.shl (i64.extend_i32_u (local.get $l2)) (i64.const 52))))))
    (local.set $f1 (i64.reinterpret_f64 (local.get $l8)))
    (local.set $l9
      (select
        (i32.wrap_i64 (local.get $f1))
        (i32.const 2143289344)
        (i64.eq (i64.shr_s (local.get $f1) (i64.const 32)) (i64.const -1))))
    (local.set $l10
      (select
        (i32.wrap_i64 (local.get $f3))
        (i32.const 2143289344)
        (i64.eq (i64.shr_s (local.get $f3) (i64.const 32)) (i64.const -1))))
    (local.set $l11
      (select
        (i32.wrap_i64 (local.get $f2))
        (i32.const 2143289344)
        (i64.eq (i64.shr_s (local.get $f2) (i64.const 32)) (i64.const -1))))
    (local.set $l12 (local.get $l9))
    (local.set $l13 (local.get $l11))
    (local.set $l14 (local.get $l10))
    (local.set $l15
      (f32x4.extract_lane 0
        (f32x4.relaxed_madd
          (f32x4.splat (f32.reinterpret_i32 (local.get $l12)))
          (f32x4.splat (f32.reinterpret_i32 (local.get $l13)))
          (f32x4.splat (f32.reinterpret_i32 (local.get $l14))))))
    (if
      (i32.eqz
        (i32.lt_u
          (i32.sub
            (i32.and (i32.shr_u (i32.reinterpret_f32 (local.get $l15)) (i32.const 20)) (i32.const 2040))
            (i32.const 16))
          (local.get $l2)))
      (then
        (local.set $l15
          (f32.reinterpret_i32
            (call $f32MulAdd (local.get $l12) (local.get $l13) (local.get $l14) (i32.const 0))))
        (local.set $l1
          (i32.and
            (i64.eq
              (i64.and (i64.load offset=mstatus (global.get $area)) (i64.const 24576))
              (i64.const 24576))
            (i32.le_u (i32.load offset=frm (global.get $area)) (i32.const 4))))
        (local.set $l2
          (select
            (i32.const 2016)
            (i32.const 0)
            (i32.and
              (i32.and (local.get $l1) (i32.eqz (i32.load offset=frm (global.get $area))))
              (i32.load offset=fflags (global.get $area)))))
        (local.set $l3 (f64.reinterpret_i64 (i64.shl (i64.extend_i32_u (local.get $l2)) (i64.const 52))))))
    (local.set $f3 (i64.or (i64.extend_i32_u (i32.reinterpret_f32 (local.get $l15))) (i64.const -4294967296)))
    (i64.store offset=f1 (global.get $area) (local.get $f1))
    (i64.store offset=f3 (global.get $area) (local.get $f3))
    (local.set $l16 (i64.add (local.get $pc) (i64.const 8)))
    (br $block0)
    (unreachable))
  (if
    (i32.and (local.get $l5) (i32.const 2))
    (then
      (i64.store offset=f1 (global.get $area) (local.get $f1))))
  (if
    (i32.and (local.get $l5) (i32.const 4))
    (then
      (i64.store offset=f2 (global.get $area) (local.get $f2))))
  (if
    (i32.and (local.get $l5) (i32.const 8))
    (then
      (i64.store offset=f3 (global.get $area) (local.get $f3))))
  (return (i32.const -1)))
(local.set $l14
  (i32.add
    (i32.load offset=fetchTable (global.get $area))
    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $l16)) (i32.const 8)) (i32.const 16368))))
(if
  (i64.lt_u (i64.xor (local.get $l16) (i64.load (local.get $l14))) (i64.const 4096))
  (then
    (local.set $l13
      (i32.add
        (i32.load offset=8 (local.get $l14))
        (i32.shl (i32.and (i32.wrap_i64 (local.get $l16)) (i32.const 4094)) (i32.const 2))))
    (if
      (i32.eq (i32.load (local.get $l13)) (i32.const 5))
      (then
        (return_call_indirect
          (local.get $l16)
          (local.get $budget)
          (local.get $depth)
          (i32.load offset=4 (local.get $l13)))))))
(i64.store offset=pc (global.get $area) (local.get $l16))
(return (local.get $budget))
