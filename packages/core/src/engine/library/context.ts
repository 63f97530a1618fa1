/** What the functions of the hart's run-time library share: the module, the window, and each other. */

import type { HartField, ScratchField } from '../../hart/state.ts';
import { F, OFFSET, X } from '../../hart/state.ts';
import { AREA, WORKER_AREA, WORKER_AREA_SIZE } from '../../memory/layout.ts';
import { type Expr, type Fn, type FunctionRef, i32, i64, type Module } from '../../wasm/index.ts';

type Field = HartField | ScratchField;

/** The running hart's window, reached by constant addresses. */
export class Window {
  /** First byte of the worker's area. */
  readonly area: number;
  readonly base: number;

  constructor(worker: number) {
    this.area = WORKER_AREA + worker * WORKER_AREA_SIZE;
    this.base = this.area + AREA.window;
  }

  address(field: Field): Expr {
    return i32.const(this.base + OFFSET[field]);
  }

  get(field: Field): Expr {
    return i64.load(i32.const(0), this.base + OFFSET[field]);
  }

  /** The low half, as i32. */
  get32(field: Field): Expr {
    return i32.load(i32.const(0), this.base + OFFSET[field]);
  }

  set(f: Fn, field: Field, value: Expr): void {
    f.store(8, i32.const(0), value, this.base + OFFSET[field]);
  }

  set32(f: Fn, field: Field, value: Expr): void {
    f.store(4, i32.const(0), value, this.base + OFFSET[field]);
  }

  /** Adds to a counter. */
  count(f: Fn, field: Field, by: Expr = i64.const(1)): void {
    this.set(f, field, i64.add(this.get(field), by));
  }

  /** Register by a number known when the code is generated. */
  x(n: number): Expr {
    return n === 0 ? i64.const(0) : i64.load(i32.const(0), this.base + X + 8 * n);
  }

  setX(f: Fn, n: number, value: Expr): void {
    if (n !== 0) f.store(8, i32.const(0), value, this.base + X + 8 * n);
  }

  /** Register by 8 times its number, an i32. */
  xAt(offset: Expr): Expr {
    return i64.load(offset, this.base + X);
  }

  fAt(offset: Expr): Expr {
    return i64.load(offset, this.base + F);
  }
}

/** Functions that the host provides to generated code; all run rarely. */
export interface Imports {
  /** (address low, address high, size) -> 0, or 1 for an access fault; the value is in `mailbox`. */
  readonly readDevice: FunctionRef;
  readonly writeDevice: FunctionRef;
  /** (guest page, write) -> host address of the page's frame; for a write one that nobody shares, marked dirty. */
  readonly prepareFrame: FunctionRef;
  /** (frame) -> its code page, made when there is none. */
  readonly codePage: FunctionRef;
  /** (slot address): fills the slot, and likely some behind it. */
  readonly decode: FunctionRef;
  /** (instruction, slot address): fills a slot that stands alone. */
  readonly decodeAlone: FunctionRef;
  /** (csr): writes `mailbox` to pmpcfg or pmpaddr, as far as locks and granularity let it. */
  readonly protectionWrite: FunctionRef;
  /** (): the monitor's SBI serves the call in a0..a7. */
  readonly monitorCall: FunctionRef;
  /** (): the timer deadlines of this hart changed. */
  readonly timerChanged: FunctionRef;
  /** (): something was stored to a watched frame. */
  readonly watched: FunctionRef;
  /** (number, 0 or the host address of the byte that was asked for) -> HINT: the hint in a0, a1. */
  readonly hint: FunctionRef;
  /** (): U-mode is about to make a system call, which somebody wants to hear of. `trapped` is 1 afterwards when the run ends before it. */
  readonly systemCall: FunctionRef;
  /** (slot address, pc low, pc high): the code there is often arrived at. */
  readonly hot: FunctionRef;
  /** (frame, pc low, pc high): code of the page of pc is about to run from a frame, while there are breakpoints. */
  readonly arm: FunctionRef;
  /** (pc low, pc high) -> 1 when the run ends before the instruction there. */
  readonly stopsAt: FunctionRef;
  /** (address low, address high, guest page or -1, access, size) -> whether an entry may be made: the access is traced. */
  readonly touched: FunctionRef;
}

export interface Library {
  readonly module: Module;
  readonly w: Window;
  readonly imports: Imports;
}

export function importHost(module: Module): Imports {
  const fn = (name: string, params: number, results: number) =>
    module.importFunction('host', name, Array(params).fill('i32'), Array(results).fill('i32'));
  return {
    readDevice: fn('readDevice', 3, 1),
    writeDevice: fn('writeDevice', 3, 1),
    prepareFrame: fn('prepareFrame', 2, 1),
    codePage: fn('codePage', 1, 1),
    decode: fn('decode', 1, 0),
    decodeAlone: fn('decodeAlone', 2, 0),
    protectionWrite: fn('protectionWrite', 1, 0),
    monitorCall: fn('monitorCall', 0, 0),
    timerChanged: fn('timerChanged', 0, 0),
    watched: fn('watched', 0, 0),
    hint: fn('hint', 2, 1),
    systemCall: fn('systemCall', 0, 0),
    hot: fn('hot', 3, 0),
    arm: fn('arm', 3, 0),
    stopsAt: fn('stopsAt', 2, 1),
    touched: fn('touched', 5, 1),
  };
}

/** `value & bit` as a condition. */
export function has(value: Expr, bits: Expr | bigint | number): Expr {
  return i64.ne(i64.and(value, bits), 0);
}

/**
 * Steps that the running budget still has, the instruction under way not counted: with what an earlier request for attention holds back.
 * Everything that is computed from the budget starts from this (`Engine.left` is the same for the host).
 */
export function stepsLeft({ w }: Library): Expr {
  return i64.add(w.get('heldBudget'), i64.extendU(w.get32('budget')));
}

/** Leaves the run as soon as the current instruction is done; what is left of the budget is kept in `heldBudget`. */
export function attention(lib: Library, f: Fn): void {
  const { w } = lib;
  w.set(f, 'heldBudget', stepsLeft(lib));
  w.set(f, 'budget', i64.const(0));
}
