/**
 * A decoded instruction, 8 bytes:
 *
 * ```text
 * 0 u16 handler | 2 u8 a | 3 u8 b | 4 i32 c
 *
 * format                 a         b         c
 * R A FR FRM FR4 ...     8 rd      8 rs1     8 rs2 | 8 rs3 << 8 | rm << 16
 * I L SH FL              8 rd      8 rs1     imm
 * S FS                   8 rs2     8 rs1     imm
 * B                      8 rs2     8 rs1     imm, or 4 imm within a page
 * U J                    8 rd                imm, or 4 imm within a page
 * CSR CSRI               8 rd      8 rs1     csr | writes << 16 | uimm << 24
 * ```
 * Handler 0 means that the halfword has not been decoded. The slot of a region's first instruction has the handler `region`, a and b
 * 0, and as c the region's place in the function table. That of a place which a breakpoint may be at has `armed`, and nothing else.
 */

import { type Expr, i32, i64 } from '../wasm/index.ts';

export const SLOT = { size: 8, handler: 0, a: 2, b: 3, c: 4 } as const;

/** Handlers that are not instructions. */
export const PSEUDO = { decode: 0, sentinel: 1, straddle: 2, nop2: 3, nop4: 4, region: 5, armed: 6, count: 7 } as const;

/** Cold handlers have this bit; it is followed by one that says whether the instruction has four bytes. */
export const COLD = 0x8000;
export const COLD_LONG = 0x4000;
/** A cold handler that raises the illegal-instruction exception. */
export const COLD_ILLEGAL = 0;

/** Readers of a slot's fields at `ip`. */
export const slotFields = (ip: Expr) => ({
  handler: () => i32.load16U(ip, SLOT.handler),
  a: () => i32.load8U(ip, SLOT.a),
  b: () => i32.load8U(ip, SLOT.b),
  c: () => i32.load(ip, SLOT.c),
  cLow: () => i32.load8U(ip, SLOT.c),
  cSecond: () => i32.load8U(ip, SLOT.c + 1),
  cThird: () => i32.load8U(ip, SLOT.c + 2),
  cHigh: () => i32.load8U(ip, SLOT.c + 3),
  cHalf: () => i32.load16U(ip, SLOT.c),
  cLong: () => i64.load32S(ip, SLOT.c),
});
