/**
 * Builds WebAssembly modules: functions with structured control flow over `Expr` trees.
 *
 * ```ts
 * const module = new Module();
 * const memory = module.importMemory('env', 'memory', { min: 1, max: 65536, shared: true });
 * const double = module.function('double', ['i64'], ['i64'], (f, x) => f.return(i64.add(x, x)), { export: true });
 * const bytes = module.encode();
 * ```
 *
 * Functions may call functions declared later (`declare`, then `define`). Errors are programming errors of the caller and
 * are thrown as `TypeError`; the module as a whole is validated by the host when it is compiled.
 */

import { Bytes, Expr, i32, VALTYPE, type ValType } from './expr.ts';

/** A mutable wasm local: an expression that can be assigned. */
export class Local extends Expr {
  readonly index: number;
  constructor(type: ValType, index: number) {
    super(type, (out) => {
      out.byte(0x20);
      out.u32(index);
    });
    this.index = index;
  }
}

/** A function of the module: its index, and its type for calls. */
export class FunctionRef {
  readonly name: string;
  readonly index: number;
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
  body: ReturnType<Fn['encode']> | undefined;
  constructor(name: string, index: number, params: readonly ValType[], results: readonly ValType[]) {
    this.name = name;
    this.index = index;
    this.params = params;
    this.results = results;
  }
}

/** An immutable global of the module: a value that is fixed when an instance is made. */
export class Global extends Expr {
  constructor(type: ValType, index: number) {
    super(type, (out) => {
      out.byte(0x23);
      out.u32(index);
    });
  }
}

/** The type of functions in a table, as calls through it name it. */
export interface FunctionType {
  readonly index: number;
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

/** A branch target, opened by `block` or `loop`. */
export interface Label {
  readonly depth: number;
}

type Body = () => void;

/** What an engine should expect of a condition: the unlikely arm is moved out of the way. */
export type Hint = 'likely' | 'unlikely';

/** The body of one function, written statement by statement. */
export class Fn {
  readonly out = new Bytes();
  private readonly localTypes: ValType[] = [];
  private readonly paramCount: number;
  private readonly free: Record<ValType, Local[]> = { i32: [], i64: [], f32: [], f64: [] };
  private readonly scopes: Local[][] = [];
  private depth = 0;
  /** Offsets of hinted instructions in `out`, and the hint: 1 likely, 0 unlikely. */
  private readonly hints: [number, 0 | 1][] = [];

  constructor(paramCount: number) {
    this.paramCount = paramCount;
  }

  /** A new local, zero at function entry; inside `scope` it is reused after the scope, with whatever value it had. */
  local(type: ValType): Local {
    const local = this.free[type].pop() ?? new Local(type, this.paramCount + this.localTypes.push(type) - 1);
    this.scopes.at(-1)?.push(local);
    return local;
  }

  /** Locals made in `body` are given back when it ends. */
  scope(body: Body): void {
    this.scopes.push([]);
    body();
    for (const local of this.scopes.pop()!) this.free[local.type].push(local);
  }

  /** Computes `value` now, once, and names it. */
  let(value: Expr): Local {
    const local = this.local(value.type);
    this.set(local, value);
    return local;
  }

  set(local: Local, value: Expr): void {
    if (local.type !== value.type) throw new TypeError(`set ${local.type} to ${value.type}`);
    value.write(this.out);
    this.out.byte(0x21);
    this.out.u32(local.index);
  }

  /** `local.tee`: assigns and yields the value, as an expression that must be used once. */
  tee(local: Local, value: Expr): Expr {
    if (local.type !== value.type) throw new TypeError(`tee ${local.type} to ${value.type}`);
    return new Expr(local.type, (out) => {
      value.write(out);
      out.byte(0x22);
      out.u32(local.index);
    });
  }

  setGlobal(index: number, value: Expr): void {
    value.write(this.out);
    this.out.byte(0x24);
    this.out.u32(index);
  }

  drop(value: Expr): void {
    value.write(this.out);
    this.out.byte(0x1a);
  }

  private writeStore(opcode: number, align: number, address: Expr, value: Expr, offset: number): void {
    address.write(this.out);
    value.write(this.out);
    this.out.byte(opcode);
    this.out.u32(align);
    this.out.u32(offset);
  }

  /** Stores the low `size` bytes of `value` (i32 or i64) at `address` (i32) + `offset`. */
  store(size: 1 | 2 | 4 | 8, address: Expr, value: Expr, offset = 0): void {
    const wide = value.type === 'i64';
    const opcode = wide ? { 1: 0x3c, 2: 0x3d, 4: 0x3e, 8: 0x37 }[size] : { 1: 0x3a, 2: 0x3b, 4: 0x36, 8: 0 }[size];
    if (!opcode) throw new TypeError(`store of ${size} bytes from ${value.type}`);
    this.writeStore(opcode, 31 - Math.clz32(size), address, value, offset);
  }

  memoryFill(address: Expr, byte: Expr, length: Expr): void {
    address.write(this.out);
    byte.write(this.out);
    length.write(this.out);
    this.out.bytes([0xfc, 0x0b, 0x00]);
  }

  memoryCopy(to: Expr, from: Expr, length: Expr): void {
    to.write(this.out);
    from.write(this.out);
    length.write(this.out);
    this.out.bytes([0xfc, 0x0a, 0x00, 0x00]);
  }

  private structure(opcode: number, body: (label: Label) => void): void {
    this.out.bytes([opcode, 0x40]);
    body({ depth: ++this.depth });
    this.depth--;
    this.out.byte(0x0b);
  }

  /** A branch to the label leaves the block. */
  block(body: (label: Label) => void): void {
    this.structure(0x02, body);
  }

  /** A branch to the label starts the next turn; falling off the end leaves the loop. */
  loop(body: (label: Label) => void): void {
    this.structure(0x03, body);
  }

  private hint(hint: Hint | undefined): void {
    if (hint) this.hints.push([this.out.length, hint === 'likely' ? 1 : 0]);
  }

  if(condition: Expr, yes: Body, no?: Body, hint?: Hint): void {
    if (condition.type !== 'i32') throw new TypeError(`if of ${condition.type}`);
    if (condition.constant !== undefined) {
      // The dead arm is not written; the live one stands alone, as labels count enclosing structures only.
      if (condition.constant !== 0n) yes();
      else no?.();
      return;
    }
    condition.write(this.out);
    this.hint(hint);
    this.out.bytes([0x04, 0x40]);
    this.depth++;
    yes();
    if (no) {
      this.out.byte(0x05);
      no();
    }
    this.depth--;
    this.out.byte(0x0b);
  }

  br(label: Label): void {
    this.out.byte(0x0c);
    this.out.u32(this.depth - label.depth);
  }

  brIf(label: Label, condition: Expr): void {
    condition.write(this.out);
    this.out.byte(0x0d);
    this.out.u32(this.depth - label.depth);
  }

  brTable(labels: readonly Label[], otherwise: Label, index: Expr): void {
    index.write(this.out);
    this.out.byte(0x0e);
    this.out.u32(labels.length);
    for (const label of labels) this.out.u32(this.depth - label.depth);
    this.out.u32(this.depth - otherwise.depth);
  }

  /**
   * Runs `handler(index)`; with an index of `count` or more, `otherwise`. Handlers are written one behind another, each in
   * a scope of its own, and end by leaving the switch.
   */
  switch(index: Expr, count: number, handler: (i: number) => void, otherwise: Body = () => {}): void {
    this.block((done) => {
      this.block((none) => {
        const open = (labels: readonly Label[]): void => {
          if (labels.length === count) return this.brTable([...labels].reverse(), none, index);
          this.block((label) => open([...labels, label]));
          // A branch to the innermost label, which is handler 0's, arrives behind the innermost block; and so outwards.
          this.scope(() => handler(count - 1 - labels.length));
          this.br(done);
        };
        open([]);
      });
      otherwise();
    });
  }

  /** Runs `body` while `condition`, tested before each turn. */
  while(condition: () => Expr, body: Body): void {
    this.block((done) => {
      this.loop((again) => {
        const c = condition();
        this.brIf(done, i32.eqz(c));
        body();
        this.br(again);
      });
    });
  }

  return(...values: Expr[]): void {
    for (const value of values) value.write(this.out);
    this.out.byte(0x0f);
  }

  unreachable(): void {
    this.out.byte(0x00);
  }

  private writeCall(out: Bytes, target: FunctionRef, args: readonly Expr[]): void {
    if (args.length !== target.params.length) throw new TypeError(`${target.name}: ${args.length} arguments`);
    args.forEach((arg, i) => {
      if (arg.type !== target.params[i]) throw new TypeError(`${target.name}: argument ${i} is ${arg.type}`);
      arg.write(out);
    });
    out.byte(0x10);
    out.u32(target.index);
  }

  /** A call as a statement; results are dropped. */
  do(target: FunctionRef, ...args: Expr[]): void {
    this.writeCall(this.out, target, args);
    for (const _ of target.results) this.out.byte(0x1a);
  }

  /** A call as a value: happens where the expression is used. Pin it with `let` unless it is used at once. */
  call(target: FunctionRef, ...args: Expr[]): Expr {
    if (target.results.length !== 1) throw new TypeError(`${target.name} has ${target.results.length} results`);
    return new Expr(target.results[0]!, (out) => this.writeCall(out, target, args));
  }

  private writeIndirect(opcode: number, out: Bytes, type: FunctionType, entry: Expr, args: readonly Expr[]): void {
    args.forEach((arg, i) => {
      if (arg.type !== type.params[i]) throw new TypeError(`indirect call: argument ${i} is ${arg.type}`);
      arg.write(out);
    });
    entry.write(out);
    out.byte(opcode);
    out.u32(type.index);
    out.byte(0); // the table
  }

  /** Calls the function in table 0 at `entry`; a null or another type traps. */
  callIndirect(type: FunctionType, entry: Expr, ...args: Expr[]): Expr {
    if (type.results.length !== 1) throw new TypeError('an indirect call as a value has one result');
    return new Expr(type.results[0]!, (out) => this.writeIndirect(0x11, out, type, entry, args));
  }

  /** Goes on in the function in table 0 at `entry`, whose results become this function's: no frame is left behind. */
  returnCallIndirect(type: FunctionType, entry: Expr, ...args: Expr[]): void {
    this.writeIndirect(0x13, this.out, type, entry, args);
  }

  /** The function's code entry (locals, body, end), and where its hints are from the entry's start. */
  encode(): { code: Bytes; hints: [number, 0 | 1][] } {
    const entry = new Bytes();
    const runs: [number, ValType][] = [];
    for (const type of this.localTypes) {
      const last = runs.at(-1);
      if (last && last[1] === type) last[0]++;
      else runs.push([1, type]);
    }
    entry.u32(runs.length);
    for (const [count, type] of runs) {
      entry.u32(count);
      entry.byte(VALTYPE[type]);
    }
    const bodyAt = entry.length;
    entry.bytes(this.out.view());
    entry.byte(0x0b);
    return { code: entry, hints: this.hints.map(([at, hint]) => [bodyAt + at, hint]) };
  }
}

export interface MemoryLimits {
  /** In wasm pages of 64 KiB. */
  readonly min: number;
  readonly max: number;
  readonly shared: boolean;
}

export class Module {
  private readonly types: string[] = [];
  private readonly typeBytes: Bytes[] = [];
  private readonly imports: FunctionRef[] = [];
  private readonly importBytes: Bytes[] = [];
  private readonly functions: FunctionRef[] = [];
  private readonly exports: [string, FunctionRef][] = [];
  private readonly elements: Bytes[] = [];
  private globals = 0;
  private readonly names: boolean;

  /** `names`: whether functions keep their names, for profilers and traps. */
  constructor({ names = true }: { names?: boolean } = {}) {
    this.names = names;
  }

  private typeIndex(params: readonly ValType[], results: readonly ValType[]): number {
    const key = `${params}>${results}`;
    const known = this.types.indexOf(key);
    if (known >= 0) return known;
    const bytes = new Bytes();
    bytes.byte(0x60);
    for (const list of [params, results]) {
      bytes.u32(list.length);
      for (const type of list) bytes.byte(VALTYPE[type]);
    }
    this.typeBytes.push(bytes);
    return this.types.push(key) - 1;
  }

  private addImport(module: string, name: string, kind: number): Bytes {
    const bytes = new Bytes();
    bytes.name(module);
    bytes.name(name);
    bytes.byte(kind);
    this.importBytes.push(bytes);
    return bytes;
  }

  importMemory(module: string, name: string, limits: MemoryLimits): void {
    const bytes = this.addImport(module, name, 0x02);
    bytes.byte(limits.shared ? 3 : 1);
    bytes.u32(limits.min);
    bytes.u32(limits.max);
  }

  /** An immutable global. */
  importGlobal(module: string, name: string, type: ValType): Global {
    const bytes = this.addImport(module, name, 0x03);
    bytes.byte(VALTYPE[type]);
    bytes.byte(0x00);
    return new Global(type, this.globals++);
  }

  /** Table 0, of function references, with at least `min` entries. */
  importTable(module: string, name: string, min: number): void {
    const bytes = this.addImport(module, name, 0x01);
    bytes.byte(0x70);
    bytes.byte(0x00);
    bytes.u32(min);
  }

  functionType(params: readonly ValType[], results: readonly ValType[]): FunctionType {
    return { index: this.typeIndex(params, results), params, results };
  }

  /** All imports come before the first function. */
  importFunction(module: string, name: string, params: readonly ValType[], results: readonly ValType[]): FunctionRef {
    if (this.functions.length) throw new TypeError('imports come before functions');
    const bytes = this.addImport(module, name, 0x00);
    bytes.u32(this.typeIndex(params, results));
    const ref = new FunctionRef(name, this.imports.length, params, results);
    this.imports.push(ref);
    return ref;
  }

  /** Declares a function so that others can call it; `define` gives it a body. */
  declare(name: string, params: readonly ValType[], results: readonly ValType[]): FunctionRef {
    const ref = new FunctionRef(name, this.imports.length + this.functions.length, params, results);
    this.functions.push(ref);
    return ref;
  }

  define(ref: FunctionRef, body: (f: Fn, ...params: Local[]) => void): void {
    const fn = new Fn(ref.params.length);
    body(fn, ...ref.params.map((type, i) => new Local(type, i)));
    ref.body = fn.encode();
  }

  function(
    name: string,
    params: readonly ValType[],
    results: readonly ValType[],
    body: (f: Fn, ...params: Local[]) => void,
  ): FunctionRef {
    const ref = this.declare(name, params, results);
    this.define(ref, body);
    return ref;
  }

  /** Puts functions into table 0, one behind another from `place` on, when an instance is made. */
  element(place: Expr, functions: readonly FunctionRef[]): void {
    const bytes = new Bytes();
    bytes.byte(0x00);
    place.write(bytes);
    bytes.byte(0x0b);
    bytes.u32(functions.length);
    for (const ref of functions) bytes.u32(ref.index);
    this.elements.push(bytes);
  }

  export(name: string, ref: FunctionRef): void {
    this.exports.push([name, ref]);
  }

  encode(): Uint8Array<ArrayBuffer> {
    for (const ref of this.functions) {
      if (!ref.body) throw new TypeError(`${ref.name} is declared and never defined`);
    }
    const out = new Bytes();
    out.bytes([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
    const section = (id: number, entries: readonly Bytes[]): void => {
      const body = new Bytes();
      body.u32(entries.length);
      for (const entry of entries) body.bytes(entry.view());
      out.byte(id);
      out.sized(body);
    };
    const functionTypes = this.functions.map((ref) => {
      const bytes = new Bytes();
      bytes.u32(this.typeIndex(ref.params, ref.results));
      return bytes;
    });
    section(1, this.typeBytes);
    section(2, this.importBytes);
    section(3, functionTypes);
    section(
      7,
      this.exports.map(([name, ref]) => {
        const bytes = new Bytes();
        bytes.name(name);
        bytes.byte(0x00);
        bytes.u32(ref.index);
        return bytes;
      }),
    );
    if (this.elements.length) section(9, this.elements);
    this.writeHints(out);
    section(
      10,
      this.functions.map((ref) => {
        const bytes = new Bytes();
        bytes.sized(ref.body!.code);
        return bytes;
      }),
    );
    if (this.names) this.writeNames(out);
    return out.view().slice();
  }

  /** The branch hints (proposal "branch hinting"): before the code, function by function. */
  private writeHints(out: Bytes): void {
    const hinted = this.functions.filter((ref) => ref.body!.hints.length > 0);
    if (hinted.length === 0) return;
    const body = new Bytes();
    body.name('metadata.code.branch_hint');
    body.u32(hinted.length);
    for (const ref of hinted) {
      body.u32(ref.index);
      body.u32(ref.body!.hints.length);
      for (const [at, hint] of ref.body!.hints) {
        body.u32(at);
        body.u32(1);
        body.byte(hint);
      }
    }
    out.byte(0);
    out.sized(body);
  }

  /** The name section, so that profilers and traps show function names. */
  private writeNames(out: Bytes): void {
    const all = [...this.imports, ...this.functions];
    const map = new Bytes();
    map.u32(all.length);
    for (const ref of all) {
      map.u32(ref.index);
      map.name(ref.name);
    }
    const body = new Bytes();
    body.name('name');
    body.byte(1);
    body.sized(map);
    out.byte(0);
    out.sized(body);
  }
}
