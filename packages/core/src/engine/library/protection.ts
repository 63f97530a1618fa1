/**
 * Physical memory protection where the hart's code is: the rights of a page, and what its addresses read as. Rules and grain
 * are those of `hart/protection.ts`, which is also what writes the registers. No host call: a walk asks up to four times.
 */

import { OFFSET, PRIVILEGE } from '../../hart/state.ts';
import { type Expr, type FunctionRef, i32, i64, select } from '../../wasm/index.ts';
import { has, type Library } from './context.ts';

const ENTRIES = 16;
const ALL = 7;
const MODE = 0x18;
const TOR = 0x08;
const NAPOT = 0x18;
const LOCK = 0x80;
/** Bits of an address register below the grain of 4 KiB. */
const BELOW_GRAIN = (1n << 10n) - 1n;
const ADDRESS_MASK = (1n << 54n) - 1n;

const napot = (address: Expr): Expr => i64.or(address, BELOW_GRAIN >> 1n);
const grained = (address: Expr): Expr => i64.and(address, ~BELOW_GRAIN);

/** The register `pmpaddr<n>` of the hart in the window as a read gives it. */
export function readProtectionAddress({ w }: Library, n: number): Expr {
  const address = w.get(`pmpaddr${n}` as 'pmpaddr0');
  const mode = i32.and(i32.load8U(i32.const(n), w.base + OFFSET.pmpcfg0), MODE);
  return select(i32.eq(mode, NAPOT), napot(address), grained(address));
}

/** (physical address, privilege) -> R 1 | W 2 | X 4 on its page, for the hart in the window. */
export function addProtection({ module, w }: Library): FunctionRef {
  return module.function('pageRights', ['i64', 'i32'], ['i32'], (f, physical, privilege) => {
    const inMachine = f.let(i32.eq(privilege, PRIVILEGE.machine));
    const address = f.let(i64.shl(i64.shrU(physical, 12), 10));
    const below = f.let(i64.const(0));
    const n = f.let(i32.const(0));
    // Both configuration registers lie side by side, a byte an entry.
    f.while(
      () => i32.ltU(n, ENTRIES),
      () => {
        const config = f.let(i32.load8U(n, w.base + OFFSET.pmpcfg0));
        const own = f.let(i64.load(i32.shl(n, 3), w.base + OFFSET.pmpaddr0));
        const mode = i32.and(config, MODE);
        const matches = f.let(i32.const(0));
        f.if(
          i32.eq(mode, TOR),
          () => f.set(matches, i32.and(i64.geU(address, grained(below)), i64.ltU(address, grained(own)))),
          () =>
            f.if(i32.eq(mode, NAPOT), () => {
              // The trailing ones say the size; they and the zero above them are not compared.
              const ones = f.let(napot(own));
              const compared = i64.and(i64.xor(i64.xor(ones, i64.add(ones, 1)), -1), ADDRESS_MASK);
              f.set(matches, i32.eqz(has(i64.xor(address, ones), compared)));
            }),
        );
        f.if(matches, () => {
          f.if(i32.and(inMachine, i32.eqz(i32.and(config, LOCK))), () => f.return(i32.const(ALL)));
          f.return(i32.and(config, ALL));
        });
        f.set(below, own);
        f.set(n, i32.add(n, 1));
      },
    );
    f.return(select(inMachine, i32.const(ALL), i32.const(0)));
  });
}
