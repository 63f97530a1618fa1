/**
 * Hints of guest programs to the monitor (`docs/hints.md`): `slti` with rd = x0, which the specification sets aside for custom
 * use (unprivileged specification, chapter "RV32I", "HINT Instructions").
 *
 * Other systems use such encodings too, so one acts only when rs1 holds Braid's own number, which x0 never does; elsewhere, and
 * on other machines, it does nothing. It prints as the `slti` that it is.
 */

import { i64 } from '../wasm/index.ts';
import { encoding, type Row, rowsOf } from './row.ts';

/** Spelled `braid1\r\n` from its highest byte on. */
export const HINT_MAGIC = 0x6272_6169_6431_0a0dn;

const row = rowsOf('Xbraidhint');

export const hint: readonly Row[] = [
  row('braid.hint', 'I', encoding({ opcode: 0x13, funct3: 2, rd: 0 }), (s) => {
    s.f.if(i64.eq(s.rs1(), HINT_MAGIC), () => s.system('hint'), undefined, 'unlikely');
  }),
];
