/**
 * The D extension: double-precision floating point (unprivileged specification, chapter "D").
 *
 * Conversions between the formats are here too: an encoding names the format of the result, and rs2 the operand's.
 */

import { arithmeticRows, conversionRows, double, exact, float, op, rounded, single } from './float.ts';
import type { Row } from './row.ts';

export const d: readonly Row[] = [
  ...arithmeticRows(double),
  rounded(double, 'fcvt.s.d', 'FR1M', op(single, 0x08, { rs2: 1 }), (s, rm) => s.fds(s.soft('f64ToF32', s.fs1(), rm))),
  exact(double, 'fcvt.d.s', 'FR1M', op(double, 0x08, { rs2: 0 }), (s) => s.fd(s.soft('f32ToF64', s.fs1s()))),
  ...conversionRows(double),
  float(double, 'fmv.x.d', 'FX', op(double, 0x1c, { funct3: 0, rs2: 0 }), (s) => s.rd(s.fs1())),
  float(double, 'fmv.d.x', 'XF', op(double, 0x1e, { funct3: 0, rs2: 0 }), (s) => s.fd(s.rs1())),
];
