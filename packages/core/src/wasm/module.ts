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

import { Bytes, custom, type Expr, i32, reinterpreted, VALTYPE, type ValType, Variable } from './expr.ts';

/** A mutable wasm local: an expression that can be assigned. */
export class Local extends Variable {
  constructor(type: ValType, index: number) {
    super(type, 0x20, index);
  }

  get index(): number {
    return this.n;
  }
}

/** A function's code as it stands in the module: its length, locals, body and end. */
interface CodeEntry {
  readonly bytes: Uint8Array;
  /** Offsets of hinted instructions behind the length, times 2, plus the hint: 1 likely, 0 unlikely. */
  readonly hints: readonly number[];
}

/** A function of the module: its index, and its type for calls. */
export class FunctionRef {
  readonly name: string;
  readonly index: number;
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
  code: CodeEntry | undefined;
  constructor(name: string, index: number, params: readonly ValType[], results: readonly ValType[]) {
    this.name = name;
    this.index = index;
    this.params = params;
    this.results = results;
  }
}

/** An immutable global of the module: a value that is fixed when an instance is made. */
export class Global extends Variable {
  constructor(type: ValType, index: number) {
    super(type, 0x23, index);
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

/** Opcodes of stores by the size's exponent; there is no i32 store of 8 bytes. */
const STORES = { i32: [0x3a, 0x3b, 0x36], i64: [0x3c, 0x3d, 0x3e, 0x37] };

/** Buffers to use again, which have grown as large as they have to be. */
const spare: Bytes[] = [];
const takeBuffer = (): Bytes => spare.pop() ?? new Bytes();
const giveBuffer = (buffer: Bytes): void => {
  buffer.length = 0;
  spare.push(buffer);
};

/** The body of one function, written statement by statement. */
export class Fn {
  readonly out: Bytes;
  private readonly localTypes: ValType[] = [];
  private readonly paramCount: number;
  private readonly free: Record<ValType, Local[]> = { i32: [], i64: [], f32: [], f64: [] };
  /** Locals of all open scopes, those of inner ones behind. */
  private readonly scoped: Local[] = [];
  private scopes = 0;
  private depth = 0;
  /** As in `CodeEntry`, with offsets in `out`. */
  private readonly hints: number[] = [];

  constructor(paramCount: number, out = new Bytes()) {
    this.paramCount = paramCount;
    this.out = out;
  }

  /** A new local, zero at function entry; inside `scope` it is reused after the scope, with whatever value it had. */
  local(type: ValType): Local {
    const local = this.free[type].pop() ?? new Local(type, this.paramCount + this.localTypes.push(type) - 1);
    if (this.scopes > 0) this.scoped.push(local);
    return local;
  }

  /** Locals made in `body` are given back when it ends. */
  scope(body: Body): void {
    const { scoped } = this;
    const first = scoped.length;
    this.scopes++;
    body();
    this.scopes--;
    for (let n = first; n < scoped.length; n++) this.free[scoped[n]!.type].push(scoped[n]!);
    scoped.length = first;
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
    return custom(local.type, (out) => {
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

  /** Stores the low `size` bytes of `value` (i32 or i64) at `address` (i32) + `offset`. */
  store(size: 1 | 2 | 4 | 8, address: Expr, value: Expr, offset = 0): void {
    const { out } = this;
    const align = 31 - Math.clz32(size);
    const double = size === 8 ? reinterpreted(value) : undefined;
    const opcode = double ? 0x39 : STORES[value.type === 'i64' ? 'i64' : 'i32'][align];
    if (opcode === undefined) throw new TypeError(`store of ${size} bytes from ${value.type}`);
    address.write(out);
    (double ?? value).write(out);
    out.byte(opcode);
    out.byte(align);
    out.u32(offset);
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
    this.out.byte(opcode);
    this.out.byte(0x40);
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
    if (hint) this.hints.push(this.out.length * 2 + (hint === 'likely' ? 1 : 0));
  }

  if(condition: Expr, yes: Body, no?: Body, hint?: Hint): void {
    if (condition.type !== 'i32') throw new TypeError(`if of ${condition.type}`);
    if (condition.isConstant) {
      // The dead arm is not written; the live one stands alone, as labels count enclosing structures only.
      if (!condition.isZero) yes();
      else no?.();
      return;
    }
    const { out } = this;
    condition.write(out);
    this.hint(hint);
    out.byte(0x04);
    out.byte(0x40);
    this.depth++;
    yes();
    if (no) {
      out.byte(0x05);
      no();
    }
    this.depth--;
    out.byte(0x0b);
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
    for (let i = 0; i < args.length; i++) {
      const arg = args[i]!;
      if (arg.type !== target.params[i]) throw new TypeError(`${target.name}: argument ${i} is ${arg.type}`);
      arg.write(out);
    }
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
    return custom(target.results[0]!, (out) => this.writeCall(out, target, args));
  }

  private writeIndirect(opcode: number, out: Bytes, type: FunctionType, entry: Expr, args: readonly Expr[]): void {
    for (let i = 0; i < args.length; i++) {
      const arg = args[i]!;
      if (arg.type !== type.params[i]) throw new TypeError(`indirect call: argument ${i} is ${arg.type}`);
      arg.write(out);
    }
    entry.write(out);
    out.byte(opcode);
    out.u32(type.index);
    out.byte(0); // the table
  }

  /** Calls the function in table 0 at `entry`; a null or another type traps. */
  callIndirect(type: FunctionType, entry: Expr, ...args: Expr[]): Expr {
    if (type.results.length !== 1) throw new TypeError('an indirect call as a value has one result');
    return custom(type.results[0]!, (out) => this.writeIndirect(0x11, out, type, entry, args));
  }

  /** Goes on in the function in table 0 at `entry`, whose results become this function's: no frame is left behind. */
  returnCallIndirect(type: FunctionType, entry: Expr, ...args: Expr[]): void {
    this.writeIndirect(0x13, this.out, type, entry, args);
  }

  encode(): CodeEntry {
    const { localTypes, hints } = this;
    const head = takeBuffer();
    let runs = 0;
    for (let n = 0; n < localTypes.length; n++) if (localTypes[n] !== localTypes[n - 1]) runs++;
    head.u32(runs);
    for (let n = 0, first = 0; n < localTypes.length; n++) {
      if (localTypes[n] === localTypes[n + 1]) continue;
      head.u32(n + 1 - first);
      head.byte(VALTYPE[localTypes[n]!]);
      first = n + 1;
    }
    const bodyAt = head.length * 2;
    for (let n = 0; n < hints.length; n++) hints[n]! += bodyAt;
    const entry = takeBuffer();
    entry.u32(head.length + this.out.length + 1);
    entry.bytes(head.view());
    entry.bytes(this.out.view());
    entry.byte(0x0b);
    const bytes = entry.view().slice();
    giveBuffer(head);
    giveBuffer(entry);
    return { bytes, hints };
  }
}

export interface MemoryLimits {
  /** In wasm pages of 64 KiB. */
  readonly min: number;
  readonly max: number;
  readonly shared: boolean;
}

export class Module {
  private readonly types: FunctionType[] = [];
  private readonly imports: FunctionRef[] = [];
  /** Encoded imports: those of the module that this is a fork of, and its own. */
  private readonly inherited: Uint8Array[] = [];
  private readonly importBytes = new Bytes();
  private importCount = 0;
  private readonly functions: FunctionRef[] = [];
  private readonly exports: [string, FunctionRef][] = [];
  private readonly elements: [Expr, readonly FunctionRef[]][] = [];
  private globals = 0;
  private readonly names: boolean;

  /** `names`: whether functions keep their names, for profilers and traps. */
  constructor({ names = true }: { names?: boolean } = {}) {
    this.names = names;
  }

  /** Another module with the types and imports that this one has, for many modules that import the same. */
  fork(): Module {
    const other = new Module({ names: this.names });
    other.types.push(...this.types);
    other.imports.push(...this.imports);
    other.inherited.push(...this.inherited, this.importBytes.view());
    other.importCount = this.importCount;
    other.globals = this.globals;
    return other;
  }

  private typeIndex(params: readonly ValType[], results: readonly ValType[]): number {
    const { types } = this;
    const same = (a: readonly ValType[], b: readonly ValType[]): boolean =>
      a === b || (a.length === b.length && a.every((type, i) => type === b[i]));
    for (let index = 0; index < types.length; index++) {
      if (same(types[index]!.params, params) && same(types[index]!.results, results)) return index;
    }
    return types.push({ index: types.length, params, results }) - 1;
  }

  private addImport(module: string, name: string, kind: number): Bytes {
    const bytes = this.importBytes;
    bytes.name(module);
    bytes.name(name);
    bytes.byte(kind);
    this.importCount++;
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
    return this.types[this.typeIndex(params, results)]!;
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
    const out = takeBuffer();
    const fn = new Fn(ref.params.length, out);
    body(fn, ...ref.params.map((type, i) => new Local(type, i)));
    ref.code = fn.encode();
    giveBuffer(out);
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
    this.elements.push([place, functions]);
  }

  export(name: string, ref: FunctionRef): void {
    this.exports.push([name, ref]);
  }

  encode(): Uint8Array<ArrayBuffer> {
    const { functions } = this;
    for (const ref of functions) {
      if (!ref.code) throw new TypeError(`${ref.name} is declared and never defined`);
    }
    const out = takeBuffer();
    out.bytes([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
    const section = (id: number, count: number, write: (body: Bytes) => void): void => {
      const body = takeBuffer();
      body.u32(count);
      write(body);
      out.byte(id);
      out.sized(body);
      giveBuffer(body);
    };
    const functionTypes = functions.map((ref) => this.typeIndex(ref.params, ref.results));
    section(1, this.types.length, (body) => {
      for (const { params, results } of this.types) {
        body.byte(0x60);
        for (const list of [params, results]) {
          body.u32(list.length);
          for (const type of list) body.byte(VALTYPE[type]);
        }
      }
    });
    section(2, this.importCount, (body) => {
      for (const bytes of this.inherited) body.bytes(bytes);
      body.bytes(this.importBytes.view());
    });
    section(3, functions.length, (body) => {
      for (const type of functionTypes) body.u32(type);
    });
    section(7, this.exports.length, (body) => {
      for (const [name, ref] of this.exports) {
        body.name(name);
        body.byte(0x00);
        body.u32(ref.index);
      }
    });
    if (this.elements.length) {
      section(9, this.elements.length, (body) => {
        for (const [place, refs] of this.elements) {
          body.byte(0x00);
          place.write(body);
          body.byte(0x0b);
          body.u32(refs.length);
          for (const ref of refs) body.u32(ref.index);
        }
      });
    }
    this.writeHints(out);
    section(10, functions.length, (body) => {
      for (const ref of functions) body.bytes(ref.code!.bytes);
    });
    if (this.names) this.writeNames(out);
    const bytes = out.view().slice();
    giveBuffer(out);
    return bytes;
  }

  /** The branch hints (proposal "branch hinting"): before the code, function by function. */
  private writeHints(out: Bytes): void {
    const hinted = this.functions.filter((ref) => ref.code!.hints.length > 0);
    if (hinted.length === 0) return;
    const body = takeBuffer();
    body.name('metadata.code.branch_hint');
    body.u32(hinted.length);
    for (const ref of hinted) {
      const { hints } = ref.code!;
      body.u32(ref.index);
      body.u32(hints.length);
      for (let n = 0; n < hints.length; n++) {
        body.u32(hints[n]! >>> 1);
        body.u32(1);
        body.byte(hints[n]! & 1);
      }
    }
    out.byte(0);
    out.sized(body);
    giveBuffer(body);
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
