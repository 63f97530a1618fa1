/** Privileged and rare instructions (privileged specification 3.3; unprivileged, "Zicsr" and "CMO"). */

import { CAUSE, DISABLE, EXIT, HEARS, HINT, MENVCFG, MSTATUS, PRIVILEGE, REPLAY_ONLY } from '../../hart/state.ts';
import type { SystemOperation } from '../../isa/row.ts';
import { type Expr, type Fn, i32, i64 } from '../../wasm/index.ts';
import { ACCESS, type AccessFunctions } from './access.ts';
import { attention, has, type Library } from './context.ts';
import type { CsrFunctions } from './csr.ts';
import { addPause } from './pause.ts';
import type { ShadowFunctions } from './shadow.ts';
import type { TrapFunctions } from './trap.ts';

/** Where a system instruction finds its operands and how it leaves. */
export interface SystemInstruction {
  readonly f: Fn;
  rs1(): Expr;
  /** The 5-bit immediate of the CSR forms. */
  uimm(): Expr;
  /** The immediate of format I, i32. */
  imm(): Expr;
  /** CSR number, i32. */
  csr(): Expr;
  /** Whether a CSR instruction writes: always for csrrw, else when rs1 is not x0 (or uimm not 0). */
  writes(): Expr;
  /** 8 times the number of rd, i32. */
  rdOffset(): Expr;
  next(): Expr;
  trap(cause: Expr, tval: Expr): void;
  illegal(): void;
  /** The instruction is done; the main function looks again at `pc`. */
  resync(): void;
}

export function addSystem(
  lib: Library,
  traps: TrapFunctions,
  access: AccessFunctions,
  csrs: CsrFunctions,
  shadow: ShadowFunctions,
): (operation: SystemOperation, s: SystemInstruction) => void {
  const { w, imports } = lib;
  const pause = addPause(lib);
  const privilege = () => w.get32('privilege');
  const status = (bit: bigint) => has(w.get('mstatus'), bit);

  /** Leaves the run for the schedule: this slice is over. */
  const leave = (s: SystemInstruction, exit: number) => {
    w.set(s.f, 'exit', i64.const(exit));
    attention(lib, s.f);
  };

  const csrAccess = (s: SystemInstruction, operation: number, immediate: boolean, always: boolean) => {
    const { f } = s;
    const result = f.let(
      f.call(
        csrs.csr,
        s.csr(),
        i32.const(operation),
        immediate ? s.uimm() : s.rs1(),
        always ? i32.const(1) : s.writes(),
        s.rdOffset(),
      ),
    );
    f.if(i32.eq(result, 2), () => s.illegal());
    f.if(result, () => {
      w.set(f, 'pc', s.next());
      s.resync();
    });
  };

  /** Cache block operations are allowed per mode by menvcfg and senvcfg. */
  const needBlockRight = (s: SystemInstruction, bits: bigint) => {
    const { f } = s;
    f.if(i32.ne(privilege(), PRIVILEGE.machine), () => {
      f.if(i64.eqz(i64.and(w.get('menvcfg'), bits)), () => s.illegal());
      f.if(i32.and(i32.eqz(privilege()), i64.eqz(i64.and(w.get('senvcfg'), bits))), () => s.illegal());
    });
  };

  /** What may be stored to may be loaded, so the right to load decides; memory here is coherent, so nothing else happens. */
  const touchBlock = (s: SystemInstruction) => {
    const { f } = s;
    const address = f.let(i64.and(s.rs1(), -64n));
    w.set32(f, 'accessSize', i32.const(0));
    f.drop(f.call(access.dataAddress, address, i32.const(ACCESS.block)));
    f.if(w.get32('trapped'), () => s.resync());
  };

  const operations: Record<SystemOperation, (s: SystemInstruction) => void> = {
    ecall: (s) => {
      const { f } = s;
      f.if(i32.and(i32.eq(privilege(), PRIVILEGE.supervisor), w.get32('monitorSbi')), () => {
        w.set(f, 'pc', s.next());
        f.do(imports.monitorCall);
        s.resync();
      });
      f.if(i32.and(i32.eqz(privilege()), i32.and(w.get32('hears'), HEARS.systemCalls)), () => {
        f.do(imports.systemCall);
        f.if(w.get32('trapped'), () => s.resync());
      });
      s.trap(i64.add(i64.extendU(privilege()), CAUSE.ecallUser), i64.const(0));
    },
    ebreak: (s) => s.trap(i64.const(CAUSE.breakpoint), w.get('pc')),
    mret: (s) => {
      s.f.if(i32.ne(privilege(), PRIVILEGE.machine), () => s.illegal());
      s.f.do(traps.mret);
      s.resync();
    },
    sret: (s) => {
      const refused = i32.or(
        i32.eqz(privilege()),
        i32.and(i32.eq(privilege(), PRIVILEGE.supervisor), status(MSTATUS.TSR)),
      );
      s.f.if(refused, () => s.illegal());
      s.f.do(traps.sret);
      s.resync();
    },
    wfi: (s) => {
      const { f } = s;
      const refused = i32.or(
        i32.eqz(privilege()),
        i32.and(i32.eq(privilege(), PRIVILEGE.supervisor), status(MSTATUS.TW)),
      );
      f.if(refused, () => s.illegal());
      w.set(f, 'pc', s.next());
      f.if(i64.eqz(i64.and(i64.or(w.get('mip'), w.get('seipLine')), w.get('mie'))), () => {
        w.set(f, 'waiting', i64.const(1));
        leave(s, EXIT.wait);
      });
      s.resync();
    },
    // What it takes from the budget is seen before the next instruction.
    pause: (s) => s.f.do(pause),
    hint: (s) => {
      const { f } = s;
      // Replay-only code is begun often, and hardly ever does somebody listen.
      const replayOnly = i32.eq(i32.and(s.imm(), -2), REPLAY_ONLY.begin);
      const unheard = f.let(i32.and(replayOnly, i32.eqz(i32.and(w.get32('hears'), HEARS.replayOnly))));
      const status = f.let(i32.const(HINT.ignored));
      f.if(i32.eqz(unheard), () => f.set(status, f.call(imports.hint, s.imm(), i32.const(0))));
      f.while(
        () => i32.eq(status, HINT.load),
        () => {
          const address = f.let(w.get('mailbox'));
          w.set32(f, 'accessSize', i32.const(0));
          const host = f.let(f.call(access.dataAddress, address, i32.const(ACCESS.load)));
          f.if(w.get32('trapped'), () => s.resync());
          // What a hint points to is RAM.
          f.if(i32.eqz(host), () => s.trap(i64.const(CAUSE.loadAccess), address));
          f.set(status, f.call(imports.hint, s.imm(), host));
        },
      );
      f.if(w.get32('trapped'), () => s.resync());
      f.if(i32.eq(status, HINT.done), () => {
        w.set(f, 'pc', s.next());
        leave(s, EXIT.hint);
        s.resync();
      });
    },
    // Nothing to order in a serial schedule, and nothing stale to discard: caches follow the guest's stores themselves.
    fence: () => {},
    'fence.i': () => {},
    'sfence.vma': (s) => {
      const refused = i32.or(
        i32.eqz(privilege()),
        i32.and(i32.eq(privilege(), PRIVILEGE.supervisor), status(MSTATUS.TVM)),
      );
      s.f.if(refused, () => s.illegal());
      s.f.if(has(w.get('disabled'), DISABLE.trace), () => s.f.do(shadow.flushAll));
    },
    csrrw: (s) => csrAccess(s, 0, false, true),
    csrrs: (s) => csrAccess(s, 1, false, false),
    csrrc: (s) => csrAccess(s, 2, false, false),
    csrrwi: (s) => csrAccess(s, 0, true, true),
    csrrsi: (s) => csrAccess(s, 1, true, false),
    csrrci: (s) => csrAccess(s, 2, true, false),
    'cbo.inval': (s) => {
      needBlockRight(s, MENVCFG.CBIE);
      touchBlock(s);
    },
    'cbo.clean': (s) => {
      needBlockRight(s, MENVCFG.CBCFE);
      touchBlock(s);
    },
    'cbo.flush': (s) => {
      needBlockRight(s, MENVCFG.CBCFE);
      touchBlock(s);
    },
    'cbo.zero': (s) => {
      const { f } = s;
      needBlockRight(s, MENVCFG.CBZE);
      const address = f.let(i64.and(s.rs1(), -64n));
      const i = f.let(i64.const(0));
      f.while(
        () => i64.ltU(i, 64),
        () => {
          f.do(access.storeSlow, i64.add(address, i), i32.const(8), i64.const(0));
          f.if(w.get32('trapped'), () => s.resync());
          f.set(i, i64.add(i, 8));
        },
      );
    },
  };
  return (operation, s) => operations[operation](s);
}
