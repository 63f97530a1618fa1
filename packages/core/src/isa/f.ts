/**
 * The F extension: single-precision floating point (unprivileged specification, chapter "F").
 *
 * An operand that is not NaN-boxed counts as the canonical NaN, except for `fsw` and `fmv.x.w`, which move the low bits whatever
 * they are (chapter "D", "NaN Boxing of Narrower Values").
 */

import { i32 } from '../wasm/index.ts';
import { arithmeticRows, conversionRows, float, op, single } from './float.ts';
import type { Row } from './row.ts';

export const f: readonly Row[] = [
  ...arithmeticRows(single),
  ...conversionRows(single),
  float(single, 'fmv.x.w', 'FX', op(single, 0x1c, { funct3: 0, rs2: 0 }), (s) => s.rdw(i32.wrap(s.fs1()))),
  float(single, 'fmv.w.x', 'XF', op(single, 0x1e, { funct3: 0, rs2: 0 }), (s) => s.fds(s.rs1w())),
];
