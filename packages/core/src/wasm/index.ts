export { Bytes, Expr, f32, f64, i32, i64, reinterpreted, relaxedMulAdd, select, type ValType } from './expr.ts';
export { Fn, FunctionRef, type FunctionType, type Label, Local, type MemoryLimits, Module } from './module.ts';
