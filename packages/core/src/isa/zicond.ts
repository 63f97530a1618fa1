/** The Zicond extension: conditional zeroing (unprivileged specification, chapter "Zicond"). */

import { i64, select } from '../wasm/index.ts';
import { encoding, type Row, rowsOf } from './row.ts';

const row = rowsOf('Zicond', { pure: true });
const op = (funct3: number) => encoding({ opcode: 0x33, funct3, funct7: 0x07 });

export const zicond: readonly Row[] = [
  row('czero.eqz', 'R', op(5), (s) => s.rd(select(i64.eqz(s.rs2()), i64.const(0), s.rs1()))),
  row('czero.nez', 'R', op(7), (s) => s.rd(select(i64.eqz(s.rs2()), s.rs1(), i64.const(0)))),
];
