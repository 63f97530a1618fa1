/**
 * What a diversion says: the machine's console and terminal, and what the program that was diverted writes to its standard output and
 * standard error.
 *
 * The latter is taken from the program's own system calls when they have returned, wherever it goes: to a terminal, a file, or a pipe whose
 * reader has not run when the diversion is over. Written to a terminal that is the machine's it appears there too.
 */

import { PRIVILEGE } from '../hart/state.ts';
import { readGuest } from '../machine/guest-memory.ts';
import type { Machine } from '../machine/machine.ts';
import { TextStream } from '../text/guest-text.ts';
import { rootOf, stackOf } from './guest-thread.ts';

export type OutputStream = 'stdout' | 'stderr' | 'console' | 'terminal';

export interface OutputPiece {
  readonly stream: OutputStream;
  readonly bytes: Uint8Array;
}

export class CapturedOutput {
  /** In the order in which they came. */
  readonly pieces: OutputPiece[] = [];
  /** Whether there was more than is kept. */
  truncated = false;
  private room: number;

  /** Keeps so many bytes. */
  constructor(limit: number) {
    this.room = limit;
  }

  add(stream: OutputStream, bytes: Uint8Array): void {
    const kept = bytes.subarray(0, this.room);
    if (kept.length < bytes.length) this.truncated = true;
    this.room -= kept.length;
    if (kept.length > 0) this.pieces.push({ stream, bytes: kept.slice() });
  }

  /** All of some streams as text: guest bytes, so to be escaped before a person sees them. */
  text(...streams: readonly OutputStream[]): string {
    const decoders = new Map<OutputStream, TextStream>();
    let text = '';
    for (const { stream, bytes } of this.pieces) {
      if (!streams.includes(stream)) continue;
      const decoder = decoders.get(stream) ?? new TextStream();
      decoders.set(stream, decoder);
      text += decoder.push(bytes);
    }
    for (const decoder of decoders.values()) text += decoder.end();
    return text;
  }
}

/** Linux's numbers, which are the same on every newer architecture. */
const WRITE = 64n;
const WRITEV = 66n;
const [A0, A1, A2, A7] = [10, 11, 12, 17];
const STREAMS = new Map<bigint, OutputStream>([
  [1n, 'stdout'],
  [2n, 'stderr'],
]);
const MAX_VECTORS = 1024;
/** The most that one system call writes (MAX_RW_COUNT). */
const MAX_WRITE = 0x7fff_f000n;

interface PendingWrite {
  readonly stream: OutputStream;
  /** Where the bytes are, or the vectors that say so. */
  readonly address: bigint;
  readonly vectors: number | undefined;
}

/** Notes what the threads of one process write. */
export class ProgramWrites {
  private readonly machine: Machine;
  private readonly root: bigint;
  private readonly output: CapturedOutput;
  /** System calls under way, by where they return to and the stack pointer. */
  private readonly pending = new Map<string, PendingWrite>();
  private readonly returns = new Set<bigint>();

  constructor(machine: Machine, root: bigint, output: CapturedOutput) {
    this.machine = machine;
    this.root = root;
    this.output = output;
  }

  /** A thread of the process is about to make a system call; true when the machine has to stand for `listen`. */
  begins(hart: number): boolean {
    const { hartSet } = this.machine;
    const number = hartSet.getX(hart, A7);
    const stream = STREAMS.get(hartSet.getX(hart, A0));
    if (!stream || (number !== WRITE && number !== WRITEV)) return false;
    const address = hartSet.getX(hart, A1);
    const count = hartSet.getX(hart, A2);
    const vectors = number === WRITEV ? (count <= MAX_VECTORS ? Number(count) : 0) : undefined;
    const back = hartSet.get(hart, 'pc') + 4n;
    this.pending.set(this.key(hart, back), { stream, address, vectors });
    return !this.returns.has(back);
  }

  /** Hears of the return of the system call that a hart stands before. */
  listen(hart: number): void {
    const { machine } = this;
    const back = machine.hartSet.get(hart, 'pc') + 4n;
    if (this.returns.has(back)) return;
    this.returns.add(back);
    machine.breakpoints.add({
      address: back,
      condition: (hart) => {
        const user = machine.hartSet.get(hart, 'privilege') === BigInt(PRIVILEGE.user);
        if (user && rootOf(machine, hart) === this.root) this.returned(hart, back);
        return false;
      },
    });
  }

  private key(hart: number, back: bigint): string {
    return `${back} ${stackOf(this.machine, hart)}`;
  }

  private returned(hart: number, back: bigint): void {
    const { machine, output } = this;
    const key = this.key(hart, back);
    const write = this.pending.get(key);
    if (!write) return;
    this.pending.delete(key);
    const count = machine.hartSet.getX(hart, A0);
    if (count > MAX_WRITE) return; // an error, as a negative number
    const { stream, address, vectors } = write;
    if (vectors === undefined) {
      this.take(hart, stream, address, Number(count));
      return;
    }
    const list = readGuest(machine, hart, address, vectors * 16);
    const view = new DataView(list.buffer, list.byteOffset, list.length);
    let left = Number(count);
    for (let at = 0; at + 16 <= list.length && left > 0; at += 16) {
      const length = view.getBigUint64(at + 8, true);
      const part = length < BigInt(left) ? Number(length) : left;
      this.take(hart, stream, view.getBigUint64(at, true), part);
      left -= part;
    }
    output.truncated ||= left > 0;
  }

  /** In pieces: the guest says how much it is. */
  private take(hart: number, stream: OutputStream, address: bigint, length: number): void {
    for (let done = 0; done < length && !this.output.truncated; ) {
      const part = Math.min(length - done, 65_536);
      const bytes = readGuest(this.machine, hart, address + BigInt(done), part);
      this.output.add(stream, bytes);
      // Another thread has unmapped it.
      if (bytes.length < part) this.output.truncated = true;
      done += part;
    }
  }
}
