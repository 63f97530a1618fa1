/** The machine as its firmware sees it. */

import type { DmaMemory } from '../devices/device.ts';
import type { SbiHost } from '../firmware/sbi.ts';
import { EXIT, MSTATUS, PRIVILEGE } from '../hart/state.ts';
import { readWord } from './guest-memory.ts';
import type { Machine } from './machine.ts';
import type { Exit } from './options.ts';

/** What only the machine itself does. */
interface Own {
  readonly memory: DmaMemory;
  finish(exit: Exit): void;
}

export function sbiHost(machine: Machine, { memory, finish }: Own): SbiHost {
  const { hartSet, engine, stopped } = machine;
  return {
    harts: machine.harts,
    memory,
    getRegister: (hart, n) => hartSet.getX(hart, n),
    setRegister: (hart, n, value) => hartSet.setX(hart, n, value),
    setSoftwareInterrupt: (hart) => hartSet.setPending(hart, 2n, true),
    clearSoftwareInterrupt: (hart) => {
      const was = (hartSet.get(hart, 'mip') & 2n) !== 0n;
      hartSet.setPending(hart, 2n, false);
      return was;
    },
    setTimer: (hart, ticks) => {
      hartSet.set(hart, 'stimecmp', ticks);
      machine.timerChanged();
    },
    // Nothing stale is kept: traced page tables and code pages drop what was derived when they are written.
    flushAddressSpace: () => {},
    flushInstructions: () => {},
    startHart: (hart, pc, opaque) => startHart(machine, hart, pc, opaque),
    stopHart: (hart) => {
      stopped[hart] = true;
      engine.attention();
    },
    suspendHart: (hart) => {
      hartSet.set(hart, 'waiting', 1n);
      engine.set('exit', BigInt(EXIT.wait));
      engine.attention();
    },
    finish,
    consoleWrite: (bytes) => machine.platform.uart.print(bytes),
    consoleRead: (max) => machine.platform.uart.take(max),
    loadVirtual: (hart, address) => {
      const physical = machine.physical(hart, address);
      return physical === undefined ? undefined : readWord(machine.ram, physical);
    },
  };
}

function startHart({ hartSet, stopped }: Machine, hart: number, pc: bigint, opaque: bigint): void {
  const loaded = hartSet.current === hart;
  const record = hartSet.record(hart);
  record.set('pc', pc);
  record.set('privilege', BigInt(PRIVILEGE.supervisor));
  record.set('satp', 0n);
  record.set('mstatus', record.get('mstatus') & ~MSTATUS.SIE);
  record.set('waiting', 0n);
  record.setX(10, BigInt(hart));
  record.setX(11, opaque);
  stopped[hart] = false;
  if (loaded) hartSet.load(hart);
}
