/**
 * A kernel's own view of its memory, read from outside: through its page tables, with a supervisor's rights, without any side effect
 * on the guest. Everything that comes from here is the guest's to forge: callers check it.
 */

import { PRIVILEGE } from '../hart/state.ts';
import { copyOut, translate } from '../machine/guest-memory.ts';
import type { Machine } from '../machine/machine.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import { decodeCString } from '../text/guest-text.ts';

export class KernelMemory {
  readonly machine: Machine;
  /** What is added to a physical address to find it in the kernel's map of all memory; unknown at first. */
  private direct: { readonly from: bigint; readonly to: bigint } | undefined;
  private readonly small = new Uint8Array(8);
  private readonly view = new DataView(this.small.buffer);

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** The value of `satp` that kernel addresses are found with: every process's tables hold the kernel's half. 0 when paging is off. */
  get satp(): bigint {
    const { machine } = this;
    for (let hart = 0; hart < machine.harts; hart++) {
      const satp = machine.hartSet.get(hart, 'satp');
      if (satp >> 60n !== 0n) return satp;
    }
    return 0n;
  }

  /** The guest-physical address behind a kernel's virtual one; undefined where nothing is mapped. */
  physical(address: bigint): bigint | undefined {
    const { direct } = this;
    if (direct && address >= direct.from && address < direct.to) return address - direct.from + BigInt(RAM_BASE);
    return this.walk(address);
  }

  /** An address of the kernel's map of all memory, whose neighbours are found without its tables from now on. */
  learnDirect(address: bigint): void {
    const physical = this.walk(address);
    if (physical === undefined) return;
    const from = address - physical + BigInt(RAM_BASE);
    const to = from + BigInt(this.machine.ram.pages * PAGE);
    // The first page may be the firmware's; the last one and one in the middle tell a map of everything from anything else.
    const middle = from + (((to - from) >> 13n) << 12n);
    const same = [to - BigInt(PAGE), middle].every((at) => this.walk(at) === at - from + BigInt(RAM_BASE));
    if (same) this.direct = { from, to };
  }

  /** Copies memory out; false, and rubbish in `into`, where a page is not mapped to RAM. */
  read(address: bigint, into: Uint8Array): boolean {
    return copyOut(this.machine.ram, address, into, (at) => this.physical(at)) === into.length;
  }

  /** The bytes at an address, or undefined where they are not all mapped. */
  bytes(address: bigint, length: number): Uint8Array | undefined {
    const into = new Uint8Array(length);
    return this.read(address, into) ? into : undefined;
  }

  /** The 64-bit word at an address. */
  u64(address: bigint): bigint | undefined {
    return this.read(address, this.small) ? this.view.getBigUint64(0, true) : undefined;
  }

  u32(address: bigint): number | undefined {
    return this.read(address, this.small.subarray(0, 4)) ? this.view.getUint32(0, true) : undefined;
  }

  i32(address: bigint): number | undefined {
    const word = this.u32(address);
    return word === undefined ? undefined : word | 0;
  }

  private walk(address: bigint): bigint | undefined {
    const { satp } = this;
    if (satp === 0n) return undefined;
    return translate(this.machine.ram, { satp, privilege: BigInt(PRIVILEGE.supervisor), mstatus: 0n }, address);
  }
}

/** Text up to a NUL. */
export function textOf(bytes: Uint8Array, from: number, length: number): string {
  return decodeCString(bytes.subarray(from, from + length));
}
