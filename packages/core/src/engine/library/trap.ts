/**
 * Traps: entry, return, and which interrupt is taken (privileged specification, 3.1.6 to 3.1.9 and 4.1).
 *
 * Whoever calls `trap` has stored the instruction's address in `pc`; afterwards `pc` is the handler's and `trapped` is 1.
 */

import { IRQ, MSTATUS, PRIVILEGE } from '../../hart/state.ts';
import { type Expr, type Fn, type FunctionRef, i32, i64, select } from '../../wasm/index.ts';
import { has, type Library } from './context.ts';

export interface TrapFunctions {
  /** (cause with the interrupt bit, tval) */
  readonly trap: FunctionRef;
  /** Takes the most urgent enabled interrupt: 1 when one was taken. */
  readonly interrupt: FunctionRef;
  readonly mret: FunctionRef;
  readonly sret: FunctionRef;
}

/** `selectSpace` brings the shadow tables in line with privilege and mstatus. */
export function addTraps(lib: Library, selectSpace: FunctionRef): TrapFunctions {
  const { module, w } = lib;
  const setPrivilege = (f: Fn, value: Expr) => w.set(f, 'privilege', value);
  /** Base address, plus 4 x cause for interrupts in vectored mode. */
  const vector = (tvec: Expr, cause: Expr) =>
    i64.add(
      i64.and(tvec, -4n),
      select(i32.and(has(tvec, 1), i64.ltS(cause, 0)), i64.shl(i64.and(cause, 63), 2), i64.const(0)),
    );

  const trap = module.function('trap', ['i64', 'i64'], [], (f, cause, tval) => {
    w.set(f, 'trapped', i64.const(1));
    w.count(f, 'traps');
    const code = i64.and(cause, 63);
    const delegation = select(i64.ltS(cause, 0), w.get('mideleg'), w.get('medeleg'));
    const status = f.let(w.get('mstatus'));
    const delegated = i32.and(has(i64.shrU(delegation, code), 1), i64.leU(w.get('privilege'), PRIVILEGE.supervisor));
    f.if(
      delegated,
      () => {
        w.set(f, 'scause', cause);
        w.set(f, 'sepc', w.get('pc'));
        w.set(f, 'stval', tval);
        // SPIE <- SIE, SIE <- 0, SPP <- privilege.
        f.set(
          status,
          i64.or(
            i64.or(
              i64.and(status, ~(MSTATUS.SPIE | MSTATUS.SIE | MSTATUS.SPP)),
              i64.shl(i64.and(status, MSTATUS.SIE), 4),
            ),
            i64.shl(w.get('privilege'), 8),
          ),
        );
        w.set(f, 'mstatus', status);
        setPrivilege(f, i64.const(PRIVILEGE.supervisor));
        w.set(f, 'pc', vector(w.get('stvec'), cause));
      },
      () => {
        w.set(f, 'mcause', cause);
        w.set(f, 'mepc', w.get('pc'));
        w.set(f, 'mtval', tval);
        f.set(
          status,
          i64.or(
            i64.or(
              i64.and(status, ~(MSTATUS.MPIE | MSTATUS.MIE | MSTATUS.MPP)),
              i64.shl(i64.and(status, MSTATUS.MIE), 4),
            ),
            i64.shl(w.get('privilege'), 11),
          ),
        );
        w.set(f, 'mstatus', status);
        setPrivilege(f, i64.const(PRIVILEGE.machine));
        w.set(f, 'pc', vector(w.get('mtvec'), cause));
      },
    );
    f.do(selectSpace);
  });

  const interrupt = module.function('interrupt', [], ['i32'], (f) => {
    const pending = f.let(i64.and(i64.or(w.get('mip'), w.get('seipLine')), w.get('mie')));
    f.if(i64.eqz(pending), () => f.return(i32.const(0)));
    const status = w.get('mstatus');
    const privilege = f.let(w.get32('privilege'));
    const forMachine = f.let(
      select(
        i32.or(i32.ltU(privilege, PRIVILEGE.machine), has(status, MSTATUS.MIE)),
        i64.and(pending, i64.xor(w.get('mideleg'), -1)),
        i64.const(0),
      ),
    );
    const supervisorOn = i32.or(
      i32.eqz(privilege),
      i32.and(i32.eq(privilege, PRIVILEGE.supervisor), has(status, MSTATUS.SIE)),
    );
    const chosen = f.let(
      select(i64.ne(forMachine, 0), forMachine, select(supervisorOn, i64.and(pending, w.get('mideleg')), i64.const(0))),
    );
    // Priority order of 3.1.9; MSI before MTI and SSI before STI, external ones first.
    for (const bit of [IRQ.MEI, IRQ.MSI, IRQ.MTI, IRQ.SEI, IRQ.SSI, IRQ.STI]) {
      const number = BigInt(bit.toString(2).length - 1);
      f.if(has(chosen, bit), () => {
        f.do(trap, i64.const((1n << 63n) | number), i64.const(0));
        f.return(i32.const(1));
      });
    }
    f.return(i32.const(0));
  });

  const mret = module.function('mret', [], [], (f) => {
    const status = f.let(w.get('mstatus'));
    const previous = f.let(i64.and(i64.shrU(status, 11), 3));
    // MIE <- MPIE, MPIE <- 1, MPP <- U, and MPRV <- 0 when leaving M-mode.
    const next = i64.or(
      i64.or(i64.and(status, ~(MSTATUS.MIE | MSTATUS.MPP)), i64.and(i64.shrU(status, 4), MSTATUS.MIE)),
      MSTATUS.MPIE,
    );
    w.set(f, 'mstatus', i64.and(next, select(i64.eq(previous, 3), i64.const(-1), i64.const(~MSTATUS.MPRV))));
    setPrivilege(f, previous);
    w.set(f, 'pc', w.get('mepc'));
    f.do(selectSpace);
  });

  const sret = module.function('sret', [], [], (f) => {
    const status = f.let(w.get('mstatus'));
    const next = i64.or(
      i64.or(i64.and(status, ~(MSTATUS.SIE | MSTATUS.SPP | MSTATUS.MPRV)), i64.and(i64.shrU(status, 4), MSTATUS.SIE)),
      MSTATUS.SPIE,
    );
    setPrivilege(f, i64.and(i64.shrU(status, 8), 1));
    w.set(f, 'mstatus', next);
    w.set(f, 'pc', w.get('sepc'));
    f.do(selectSpace);
  });

  return { trap, interrupt, mret, sret };
}
