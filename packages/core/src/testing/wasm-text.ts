/**
 * The functions of a WebAssembly module as text, for golden tests: expressions folded, labels and locals named in order of
 * appearance. Knows what the writer in `wasm/` writes, and refuses anything else.
 *
 * Source of opcodes: WebAssembly Core Specification, binary format 5.4; relaxed SIMD and threads for the prefixes fd and fe.
 */

interface TextOptions {
  /** Imported globals, in order. */
  readonly globals: readonly string[];
  /** Parameters of the functions. */
  readonly params: readonly string[];
  /** What lies at an offset from the global `base`. */
  readonly base: string;
  readonly fieldAt: (offset: number) => string | undefined;
}

/** An expression or a statement. */
interface Tree {
  readonly head: string;
  readonly args: readonly Tree[];
  /** A local that it reads or sets. */
  readonly local?: number;
  /** Of a block, loop or arm. */
  readonly body?: readonly Tree[];
  readonly label?: string;
}

interface FunctionType {
  readonly params: number;
  readonly results: number;
}

const integer = (type: string, names: string) => names.split(' ').map((name) => `${type}.${name}`);
const COMPARE = 'eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
const ALU = 'add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr';
const FLOAT_COMPARE = 'eq ne lt gt le ge';
const FLOAT_UNARY = 'abs neg ceil floor trunc nearest sqrt';
const FLOAT_BINARY = 'add sub mul div min max copysign';

/** Opcode -> name and operands, for everything that only computes; a prefix stands above three digits of what it prefixes. */
const NUMERIC = new Map<number, readonly [string, number]>();
const enter = (first: number, operands: number, names: readonly string[]) =>
  names.forEach((name, i) => {
    NUMERIC.set(first + i, [name, operands]);
  });
for (const [type, eqz, eq, clz, add] of [
  ['i32', 0x45, 0x46, 0x67, 0x6a],
  ['i64', 0x50, 0x51, 0x79, 0x7c],
] as const) {
  enter(eqz, 1, [`${type}.eqz`]);
  enter(eq, 2, integer(type, COMPARE));
  enter(clz, 1, integer(type, 'clz ctz popcnt'));
  enter(add, 2, integer(type, ALU));
}
for (const [type, eq, abs, add] of [
  ['f32', 0x5b, 0x8b, 0x92],
  ['f64', 0x61, 0x99, 0xa0],
] as const) {
  enter(eq, 2, integer(type, FLOAT_COMPARE));
  enter(abs, 1, integer(type, FLOAT_UNARY));
  enter(add, 2, integer(type, FLOAT_BINARY));
}
enter(0xa7, 1, ['i32.wrap_i64']);
enter(0xac, 1, ['i64.extend_i32_s', 'i64.extend_i32_u']);
enter(0xb2, 1, integer('f32', 'convert_i32_s convert_i32_u convert_i64_s convert_i64_u demote_f64'));
enter(0xb7, 1, integer('f64', 'convert_i32_s convert_i32_u convert_i64_s convert_i64_u promote_f32'));
enter(0xbc, 1, ['i32.reinterpret_f32', 'i64.reinterpret_f64', 'f32.reinterpret_i32', 'f64.reinterpret_i64']);
enter(0xc0, 1, [...integer('i32', 'extend8_s extend16_s'), ...integer('i64', 'extend8_s extend16_s extend32_s')]);
enter(0xfc004, 1, integer('i64', 'trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u'));
enter(0xfd013, 1, ['f32x4.splat', 'f64x2.splat']);
enter(0xfd105, 3, ['f32x4.relaxed_madd']);
enter(0xfd107, 3, ['f64x2.relaxed_madd']);
enter(0x1b, 3, ['select']);

const LOADS = new Map<number, string>([
  [0x28, 'i32.load'],
  [0x29, 'i64.load'],
  [0x2a, 'f32.load'],
  [0x2b, 'f64.load'],
  ...integer('i32', 'load8_s load8_u load16_s load16_u').map((name, i) => [0x2c + i, name] as const),
  ...integer('i64', 'load8_s load8_u load16_s load16_u load32_s load32_u').map((name, i) => [0x30 + i, name] as const),
]);
const STORES = new Map<number, string>([
  [0x36, 'i32.store'],
  [0x37, 'i64.store'],
  [0x38, 'f32.store'],
  [0x39, 'f64.store'],
  ...integer('i32', 'store8 store16').map((name, i) => [0x3a + i, name] as const),
  ...integer('i64', 'store8 store16 store32').map((name, i) => [0x3c + i, name] as const),
]);

class Reader {
  private readonly bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new RangeError('the module ends too early');
    return value;
  }

  u32(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  signed(): bigint {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(Number(shift) + 7, value);
    }
  }

  name(): string {
    const length = this.u32();
    this.at += length;
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }

  get ended(): boolean {
    return this.at >= this.bytes.length;
  }
}

/** What the bodies refer to. */
interface Context {
  readonly types: FunctionType[];
  /** Name and type of every function, imports first. */
  readonly functions: { name: string; type: FunctionType }[];
  readonly options: TextOptions;
}

class Body {
  private readonly reader: Reader;
  private readonly context: Context;
  private readonly labels: string[] = [];
  private nextLabel = 0;
  /** Labels that somebody branches to. */
  readonly used = new Set<string>();
  private stack: Tree[] = [];

  constructor(reader: Reader, context: Context) {
    this.reader = reader;
    this.context = context;
  }

  private pop(count: number): Tree[] {
    if (count > this.stack.length) throw new RangeError('an operand is missing');
    return count === 0 ? [] : this.stack.splice(-count);
  }

  private push(head: string, operands: number, local?: number): void {
    this.stack.push({ head, args: this.pop(operands), ...(local === undefined ? {} : { local }) });
  }

  private depth(): string {
    const label = this.labels.at(-1 - this.reader.u32());
    if (!label) throw new TypeError('a branch out of the function');
    this.used.add(label);
    return label;
  }

  private memory(operands: number, name: string): void {
    this.reader.u32(); // alignment: a hint
    const offset = this.reader.u32();
    const args = this.pop(operands);
    const { base, fieldAt } = this.context.options;
    const field = args[0]!.head === `global.get $${base}` ? fieldAt(offset) : undefined;
    this.stack.push({ head: offset || field ? `${name} offset=${field ?? offset}` : name, args });
  }

  private open(kind: string): string {
    const empty = this.reader.byte();
    if (empty !== 0x40) throw new TypeError(`a ${kind} with a value`);
    const label = `.${this.nextLabel++}`;
    this.labels.push(label);
    return label;
  }

  /** Statements up to the end of a block, or to `else`. */
  statements(): { body: Tree[]; ended: 'end' | 'else' } {
    const body: Tree[] = [];
    const outer = this.stack;
    this.stack = [];
    const { reader, context } = this;
    const statement = (tree: Tree) => {
      if (this.stack.length) throw new TypeError(`values are left before ${tree.head}`);
      body.push(tree);
    };
    /** A statement without results, of what the stack ends with. */
    const done = (head: string, operands: number, local?: number) => {
      this.push(head, operands, local);
      statement(this.pop(1)[0]!);
    };
    const close = (ended: 'end' | 'else') => {
      if (this.stack.length) throw new TypeError('values are left at the end of a block');
      this.stack = outer;
      return { body, ended };
    };
    const call = (head: string, type: FunctionType, operands: number, returns: boolean) => {
      this.push(head, operands);
      if (returns || type.results === 0) statement(this.pop(1)[0]!);
    };
    for (;;) {
      let opcode = reader.byte();
      if (opcode >= 0xfc) opcode = opcode * 0x1000 + reader.u32();
      const numeric = NUMERIC.get(opcode);
      const load = LOADS.get(opcode);
      const store = STORES.get(opcode);
      if (numeric) this.push(...numeric);
      else if (load) this.memory(1, load);
      else if (store) {
        this.memory(2, store);
        statement(this.pop(1)[0]!);
      } else
        switch (opcode) {
          case 0x00:
            statement({ head: 'unreachable', args: [] });
            break;
          case 0x02:
          case 0x03: {
            const kind = opcode === 0x02 ? 'block' : 'loop';
            const label = this.open(kind);
            const inner = this.statements();
            this.labels.pop();
            statement({ head: kind, args: [], body: inner.body, label });
            break;
          }
          case 0x04: {
            const args = this.pop(1);
            const label = this.open('if');
            const yes = this.statements();
            const arms: Tree[] = [{ head: 'then', args: [], body: yes.body }];
            if (yes.ended === 'else') arms.push({ head: 'else', args: [], body: this.statements().body });
            this.labels.pop();
            statement({ head: 'if', args, body: arms, label });
            break;
          }
          case 0x05:
            return close('else');
          case 0x0b:
            return close('end');
          case 0x0c:
            done(`br $${this.depth()}`, 0);
            break;
          case 0x0d:
            done(`br_if $${this.depth()}`, 1);
            break;
          case 0x0e: {
            const count = reader.u32() + 1;
            const labels = Array.from({ length: count }, () => `$${this.depth()}`);
            done(`br_table ${labels.join(' ')}`, 1);
            break;
          }
          case 0x0f:
            done('return', 1);
            break;
          case 0x10: {
            const { name, type } = context.functions[reader.u32()]!;
            call(`call $${name}`, type, type.params, false);
            break;
          }
          case 0x11:
          case 0x13: {
            const type = context.types[reader.u32()]!;
            reader.byte(); // the table
            call(opcode === 0x11 ? 'call_indirect' : 'return_call_indirect', type, type.params + 1, opcode === 0x13);
            break;
          }
          case 0x1a:
            done('drop', 1);
            break;
          case 0x20:
            this.push('local.get', 0, reader.u32());
            break;
          case 0x21:
            done('local.set', 1, reader.u32());
            break;
          case 0x22:
            this.push('local.tee', 1, reader.u32());
            break;
          case 0x23:
            this.push(`global.get $${context.options.globals[reader.u32()]}`, 0);
            break;
          case 0x41:
            this.push(`i32.const ${reader.signed()}`, 0);
            break;
          case 0x42:
            this.push(`i64.const ${reader.signed()}`, 0);
            break;
          case 0xfd01f:
          case 0xfd021:
            this.push(`${opcode === 0xfd01f ? 'f32x4' : 'f64x2'}.extract_lane ${reader.byte()}`, 1);
            break;
          default:
            throw new TypeError(`opcode 0x${opcode.toString(16)} is not one that Braid writes`);
        }
    }
  }
}

/** Names of locals: parameters, guest registers by where they are kept, the others by number. */
class Names {
  private readonly names = new Map<number, string>();
  private readonly taken = new Set<string>();
  private readonly labels = new Map<string, string>();
  private next = 0;

  constructor(body: readonly Tree[], params: readonly string[], used: ReadonlySet<string>) {
    for (const [n, param] of params.entries()) this.give(n, param);
    const kept = (memory: Tree, local: number | undefined) => {
      const register = / offset=([xf]\d+)$/.exec(memory.head)?.[1];
      if (register && local !== undefined) this.give(local, register);
    };
    const visit = (tree: Tree): void => {
      if (tree.head === 'local.set') kept(tree.args[0]!, tree.local);
      if (tree.head.startsWith('i64.store ') && tree.args[1]!.head === 'local.get') kept(tree, tree.args[1]!.local);
      if (tree.label && used.has(tree.label)) this.labels.set(tree.label, `${tree.head}${this.labels.size}`);
      tree.args.forEach(visit);
      tree.body?.forEach(visit);
    };
    body.forEach(visit);
  }

  private give(local: number, name: string): void {
    if (this.names.has(local) || this.taken.has(name)) return;
    this.names.set(local, name);
    this.taken.add(name);
  }

  /** The name of a label that is used. */
  label(label: string): string | undefined {
    return this.labels.get(label);
  }

  of(local: number): string {
    if (!this.names.has(local)) this.names.set(local, `l${this.next++}`);
    return this.names.get(local)!;
  }
}

const WIDTH = 110;

function print(tree: Tree, indent: string, names: Names): string {
  const label = tree.label && names.label(tree.label);
  let head = label ? `${tree.head} $${label}` : tree.head;
  head = head.replace(/\$\.\d+/g, (target) => `$${names.label(target.slice(1))}`);
  if (tree.local !== undefined) head += ` $${names.of(tree.local)}`;
  const inner = `${indent}  `;
  const args = tree.args.map((arg) => print(arg, inner, names));
  const parts = [...args, ...(tree.body ?? []).map((each) => print(each, inner, names))];
  const line = `(${[head, ...parts.map((part) => part.trimStart())].join(' ')})`;
  if (!tree.body && !line.includes('\n') && indent.length + line.length <= WIDTH) return indent + line;
  return `${indent}(${[head, ...parts].join('\n')})`;
}

/** Every function of the module, as text. */
export function wasmText(bytes: Uint8Array, options: TextOptions): string[] {
  const reader = new Reader(bytes);
  reader.at = 8; // magic, version
  const types: FunctionType[] = [];
  const functions: Context['functions'] = [];
  const texts: string[] = [];
  const list = (each: (n: number) => void) => {
    const count = reader.u32();
    for (let n = 0; n < count; n++) each(n);
  };
  while (!reader.ended) {
    const section = reader.byte();
    const size = reader.u32();
    const end = reader.at + size;
    if (section === 1) {
      list(() => {
        reader.byte();
        const params = reader.u32();
        reader.at += params;
        const results = reader.u32();
        reader.at += results;
        types.push({ params, results });
      });
    } else if (section === 2) {
      list(() => {
        reader.name();
        const name = reader.name();
        const kind = reader.byte();
        if (kind === 0) functions.push({ name, type: types[reader.u32()]! });
        else if (kind === 3) reader.at += 2;
        else {
          if (kind === 1) reader.byte();
          const limits = reader.byte();
          reader.u32();
          if (limits & 1) reader.u32();
        }
      });
    } else if (section === 3) {
      list((n) => {
        functions.push({ name: `function${n}`, type: types[reader.u32()]! });
      });
    } else if (section === 10) {
      list(() => {
        reader.u32();
        list(() => {
          reader.u32();
          reader.byte();
        });
        const written = new Body(reader, { types, functions, options });
        const { body } = written.statements();
        const names = new Names(body, options.params, written.used);
        texts.push(body.map((tree) => print(tree, '', names)).join('\n'));
      });
    }
    reader.at = end;
  }
  return texts;
}
