/**
 * Hints: what guest programs tell the monitor or ask of it (`docs/hints.md`), and how often each may.
 *
 * A hint acts when its number is one of these and its quota is not used up; then it retires and ends its hart's slice. One whose
 * arguments are in bounds makes `Machine.run` come back with it; any other is over with the result 0. A pointer is read as an
 * ordinary load reads, page by page: where that faults, the hint has not happened.
 */

import { HINT } from '../hart/state.ts';
import { Fields } from '../state/check.ts';
import { decodeText } from '../text/guest-text.ts';

/** In the order of their numbers, from 1 on. */
export const HINT_NAMES = ['branch', 'result', 'done', 'take', 'mark'] as const;
export type HintName = (typeof HINT_NAMES)[number];

/** How often each hint may act. */
export type HintQuotas = Readonly<Record<HintName, number>>;

/** What a program has said, on which hart. `InputEvent`'s `hint` answers. */
export type Hint =
  /** The program is to go on in `count` clones besides itself. The answer is the branch's index, 0 in the original. */
  | { readonly kind: 'branch'; readonly hart: number; readonly count: number }
  /** Bytes of the process, at a virtual address of it, belong to the branch's result. 1 answers that they are taken. */
  | { readonly kind: 'result'; readonly hart: number; readonly address: bigint; readonly bytes: Uint8Array }
  /** The branch is complete. 1 answers that somebody has noticed. */
  | { readonly kind: 'done'; readonly hart: number; readonly status: number }
  /** The original chooses a branch by its index, or none by 0. 1 answers that what it gave is in place. */
  | { readonly kind: 'take'; readonly hart: number; readonly index: number; readonly mode: number }
  /** A name for this position. 1 answers that it is noted. */
  | { readonly kind: 'mark'; readonly hart: number; readonly name: string };

export const MAX_QUOTA = 0xffff_ffff;

const MAX_BRANCHES = 64n;
const MAX_MODE = 255n;
const MAX_LENGTH = { result: 1n << 20n, mark: 256n } as const;
const PAGE = 4096n;

/** Result register: t0. Arguments: a0 and a1. */
export const HINT_RESULT = 5;
const FIRST = 10;

/** The hart that executes a hint. */
export interface HintCaller {
  readonly hart: number;
  getX(n: number): bigint;
  setX(n: number, value: bigint): void;
  /** Has the byte at a virtual address loaded. */
  load(address: bigint): void;
  /** So many bytes from a host address on, within a frame. */
  bytes(host: number, length: number): Uint8Array;
}

export class Hints {
  private readonly left: Record<HintName, number>;
  private current: Hint | undefined;
  /** Host addresses of the pieces of what the hint under way points to, as far as they are known. */
  private pieces: number[] = [];

  constructor(quotas: Partial<HintQuotas> = {}) {
    this.left = quotasOf((name) => quotas[name] ?? 0);
  }

  /** What is left of them. */
  get quotas(): HintQuotas {
    return { ...this.left };
  }

  /** The machine has become another one. */
  restore(quotas: HintQuotas): void {
    Object.assign(this.left, quotas);
    this.current = undefined;
    this.pieces = [];
  }

  /** The hint that has ended the slice, once. */
  take(): Hint | undefined {
    const { current } = this;
    this.current = undefined;
    return current;
  }

  /** As `EngineHost.hint`. */
  execute(number: number, host: number, caller: HintCaller): number {
    const name = HINT_NAMES[number - 1];
    if (name === undefined || this.left[name] === 0) return HINT.ignored;
    if (host === 0) this.pieces = [];
    else this.pieces.push(host);
    const first = caller.getX(FIRST);
    const second = caller.getX(FIRST + 1);
    const points = (name === 'result' || name === 'mark') && second <= MAX_LENGTH[name];
    const bytes = points ? this.read(first, Number(second), caller) : undefined;
    if (points && !bytes) return HINT.load;
    this.left[name]--;
    this.current = hintOf(name, caller.hart, first, second, bytes);
    if (!this.current) caller.setX(HINT_RESULT, 0n);
    return HINT.done;
  }

  /** The bytes at a virtual address; undefined while the next page's host address is being asked for. */
  private read(address: bigint, length: number, caller: HintCaller): Uint8Array | undefined {
    const inFirst = Number(PAGE - (address % PAGE));
    const pages = length === 0 ? 0 : 1 + Math.ceil(Math.max(0, length - inFirst) / Number(PAGE));
    const { pieces } = this;
    // Twice: the first time may set accessed bits, and so give a frame that was among the first ones a copy of its own.
    if (pieces.length < 2 * pages) {
      const n = pieces.length % pages;
      const at = n === 0 ? address : address - (address % PAGE) + BigInt(n) * PAGE;
      caller.load(BigInt.asUintN(64, at));
      return undefined;
    }
    const bytes = new Uint8Array(length);
    let done = 0;
    for (const [n, piece] of pieces.slice(pages).entries()) {
      const part = Math.min(length - done, n === 0 ? inFirst : Number(PAGE));
      bytes.set(caller.bytes(piece, part), done);
      done += part;
    }
    return bytes;
  }
}

/** Undefined for arguments that are out of bounds. */
function hintOf(
  kind: HintName,
  hart: number,
  first: bigint,
  second: bigint,
  bytes: Uint8Array | undefined,
): Hint | undefined {
  switch (kind) {
    case 'branch':
      return first >= 1n && first <= MAX_BRANCHES ? { kind, hart, count: Number(first) } : undefined;
    case 'result':
      return bytes && { kind, hart, address: first, bytes };
    case 'done':
      return { kind, hart, status: Number(BigInt.asIntN(32, first)) };
    case 'take':
      if (first > MAX_BRANCHES || second > MAX_MODE) return undefined;
      return { kind, hart, index: Number(first), mode: Number(second) };
    case 'mark':
      return bytes && { kind, hart, name: decodeText(bytes) };
  }
}

function quotasOf(quota: (name: HintName) => number): Record<HintName, number> {
  return Object.fromEntries(HINT_NAMES.map((name) => [name, quota(name)])) as Record<HintName, number>;
}

/** Quotas from a record, which may come from anywhere. Throws `StateError`. */
export function restoreQuotas(state: unknown): HintQuotas {
  const record = new Fields(state, 'machine.hints');
  const quotas = quotasOf((name) => record.integer(name, 0, MAX_QUOTA));
  record.end();
  return quotas;
}
