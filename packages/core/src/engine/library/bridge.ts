/** What translated code calls of the hart's run-time library: everything that does not stand in the region itself. */

import { UNWIND } from '../../hart/state.ts';
import { type Expr, type Fn, type FunctionRef, i32, i64, select } from '../../wasm/index.ts';
import type { AccessFunctions } from './access.ts';
import { has, type Library } from './context.ts';

export interface BridgeFunctions {
  /** (address, size, pc, budget, length) -> the value, zero-extended; `unwind` says how to go on, `pc` where if not here. */
  readonly loadMiss: FunctionRef;
  /** (address, size, value, pc, budget, length) -> UNWIND. */
  readonly storeMiss: FunctionRef;
  /** (handler, operands as a slot, pc, budget, length) -> UNWIND, never `attention`: the interpreter does one instruction. */
  readonly outOfLine: FunctionRef;
}

/** `cold`: (index, slot, length) -> whether the main function has to look at `pc`; `float` is its sibling from `coldCount` on. */
export function addBridge(
  lib: Library,
  access: AccessFunctions,
  cold: FunctionRef,
  float: FunctionRef,
  coldCount: number,
): BridgeFunctions {
  const { module, w } = lib;

  const publish = (f: Fn, pc: Expr, budget: Expr) => {
    w.set(f, 'pc', pc);
    w.set32(f, 'budget', budget);
  };
  const asked = () => i64.ne(w.get('heldBudget'), 0);
  const pending = () => has(i64.and(i64.or(w.get('mip'), w.get('seipLine')), w.get('mie')), -1);

  /** Sets and gives UNWIND; when somebody wants attention the run goes on behind the instruction. */
  const settle = (f: Fn, pc: Expr, length: Expr): Expr => {
    const after = f.let(
      select(
        w.get32('trapped'),
        i32.const(UNWIND.trapped),
        select(asked(), i32.const(UNWIND.attention), i32.const(UNWIND.none)),
      ),
    );
    f.if(i32.eq(after, UNWIND.attention), () => w.set(f, 'pc', i64.add(pc, i64.extendU(length))));
    return after;
  };

  const loadMiss = module.function(
    'loadMiss',
    ['i64', 'i32', 'i64', 'i32', 'i32'],
    ['i64'],
    (f, va, size, pc, budget, length) => {
      publish(f, pc, budget);
      const value = f.let(f.call(access.loadSlow, va, size));
      w.set32(f, 'unwind', settle(f, pc, length));
      f.return(value);
    },
  );

  const storeMiss = module.function(
    'storeMiss',
    ['i64', 'i32', 'i64', 'i64', 'i32', 'i32'],
    ['i32'],
    (f, va, size, value, pc, budget, length) => {
      publish(f, pc, budget);
      f.do(access.storeSlow, va, size, value);
      f.return(settle(f, pc, length));
    },
  );

  const outOfLine = module.function(
    'outOfLine',
    ['i32', 'i64', 'i64', 'i32', 'i32'],
    ['i32'],
    (f, handler, operands, pc, budget, length) => {
      publish(f, pc, budget);
      w.set(f, 'operands', operands);
      const slot = w.address('operands');
      const space = f.let(w.get32('fetchTable'));
      const look = f.local('i32');
      f.if(
        i32.ltU(handler, coldCount),
        () => f.set(look, f.call(cold, handler, slot, length)),
        () => f.set(look, f.call(float, i32.sub(handler, coldCount), slot, length)),
      );
      const next = f.let(i64.add(pc, i64.extendU(length)));
      // By a request for attention, or by a pause.
      const shortened = i32.ne(w.get32('budget'), budget);
      f.if(
        look,
        () => {
          // A CSR was written: nothing changed that concerns code unless the space did or an interrupt may be taken now.
          const elsewhere = i32.or(i64.ne(w.get('pc'), next), i32.ne(w.get32('fetchTable'), space));
          const leave = i32.or(i32.or(elsewhere, w.get32('trapped')), i32.or(shortened, pending()));
          f.return(leave);
        },
        () => {
          f.if(shortened, () => {
            w.set(f, 'pc', next);
            f.return(i32.const(UNWIND.trapped));
          });
        },
      );
      f.return(i32.const(UNWIND.none));
    },
  );

  return { loadMiss, storeMiss, outOfLine };
}
