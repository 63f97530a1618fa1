/** What the tests of this folder build their inputs from. */

export interface SegmentSpec {
  readonly address: bigint;
  readonly virtual?: bigint;
  readonly data: Uint8Array;
  readonly memorySize?: number;
}

export interface ElfSpec {
  /** It runs anywhere (`ET_DYN`). */
  readonly relocatable?: boolean;
  readonly entry?: bigint;
  readonly segments: readonly SegmentSpec[];
  readonly symbols?: Readonly<Record<string, bigint>>;
}

/** A small executable: header, program headers, segments, symbol table, strings, section headers. */
export function buildElf(spec: ElfSpec): Uint8Array {
  const { segments } = spec;
  const symbols = Object.entries(spec.symbols ?? {});
  let names = '\0';
  const nameAt = symbols.map(([name]) => {
    const at = names.length;
    names += `${name}\0`;
    return at;
  });
  const dataAt: number[] = [];
  let at = 64 + segments.length * 56;
  for (const { data } of segments) {
    dataAt.push(at);
    at += data.length;
  }
  at = (at + 7) & ~7;
  const symbolsAt = at;
  const symbolBytes = (symbols.length + 1) * 24;
  const namesAt = symbolsAt + symbolBytes;
  const sectionsAt = (namesAt + names.length + 7) & ~7;
  const bytes = new Uint8Array(sectionsAt + 3 * 64);
  const view = new DataView(bytes.buffer);
  const u16 = (offset: number, value: number) => view.setUint16(offset, value, true);
  const u32 = (offset: number, value: number) => view.setUint32(offset, value, true);
  const u64 = (offset: number, value: number | bigint) => view.setBigUint64(offset, BigInt(value), true);

  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  u16(16, spec.relocatable ? 3 : 2);
  u16(18, 243);
  u32(20, 1);
  u64(24, spec.entry ?? segments[0]?.virtual ?? segments[0]?.address ?? 0n);
  u64(32, 64);
  u64(40, sectionsAt);
  u16(52, 64);
  u16(54, 56);
  u16(56, segments.length);
  u16(58, 64);
  u16(60, 3);
  segments.forEach((segment, i) => {
    const header = 64 + i * 56;
    u32(header, 1);
    u32(header + 4, 7);
    u64(header + 8, dataAt[i]!);
    u64(header + 16, segment.virtual ?? segment.address);
    u64(header + 24, segment.address);
    u64(header + 32, segment.data.length);
    u64(header + 40, segment.memorySize ?? segment.data.length);
    bytes.set(segment.data, dataAt[i]!);
  });
  symbols.forEach(([, value], i) => {
    const symbol = symbolsAt + (i + 1) * 24;
    u32(symbol, nameAt[i]!);
    bytes[symbol + 4] = 0x10; // global
    u16(symbol + 6, 0xfff1); // absolute
    u64(symbol + 8, value);
  });
  for (let i = 0; i < names.length; i++) bytes[namesAt + i] = names.charCodeAt(i);
  const section = (index: number, type: number, offset: number, size: number, link: number) => {
    const header = sectionsAt + index * 64;
    u32(header + 4, type);
    u64(header + 24, offset);
    u64(header + 32, size);
    u32(header + 40, link);
  };
  section(1, 2, symbolsAt, symbolBytes, 2);
  section(2, 3, namesAt, names.length, 0);
  return bytes;
}

/** A kernel image of `length` bytes with a valid boot image header. */
export function buildImage(length: number, header: { textOffset?: bigint; imageSize?: bigint; flags?: bigint } = {}) {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x0000006f, true); // j .
  view.setBigUint64(8, header.textOffset ?? 0x200000n, true);
  view.setBigUint64(16, header.imageSize ?? BigInt(length), true);
  view.setBigUint64(24, header.flags ?? 0n, true);
  view.setUint32(32, 2, true);
  view.setUint32(56, 0x05435352, true);
  return bytes;
}

/** A tree that has been read back: property values as bytes. */
export interface DecodedNode {
  readonly name: string;
  readonly properties: Map<string, Uint8Array>;
  readonly children: DecodedNode[];
}

/** Reads a flattened tree, apart from the encoder; throws for one that is not well formed. */
export function decodeTree(blob: Uint8Array): DecodedNode {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const field = (i: number) => view.getUint32(i * 4);
  const fail = (why: string): never => {
    throw new Error(`device tree: ${why}`);
  };
  if (field(0) !== 0xd00dfeed) fail('magic');
  if (field(1) !== blob.length) fail('total size');
  if (field(5) !== 17 || field(6) !== 16) fail('version');
  const [structure, strings, stringsSize, structureSize] = [field(2), field(3), field(8), field(9)];
  if (structure % 4 !== 0 || field(4) % 8 !== 0) fail('alignment');
  if (structure + structureSize > strings || strings + stringsSize > blob.length) fail('blocks');
  const text = (at: number) => {
    let end = at;
    while (blob[end] !== 0) end++;
    return new TextDecoder().decode(blob.subarray(at, end));
  };
  let at = structure;
  const token = () => {
    at += 4;
    return view.getUint32(at - 4);
  };
  const read = (): DecodedNode => {
    const name = text(at);
    at = (at + name.length + 4) & ~3;
    const tree: DecodedNode = { name, properties: new Map(), children: [] };
    for (;;) {
      const kind = token();
      if (kind === 2) return tree;
      if (kind === 1) tree.children.push(read());
      else if (kind === 3) {
        if (tree.children.length > 0) fail('property after a child');
        const length = token();
        const key = text(strings + token());
        tree.properties.set(key, blob.subarray(at, at + length));
        at = (at + length + 3) & ~3;
      } else fail(`token ${kind}`);
    }
  };
  if (token() !== 1) fail('no root');
  const root = read();
  if (token() !== 9 || at !== structure + structureSize) fail('no end');
  return root;
}

/** The node at a path of names. */
export function find(root: DecodedNode, path: string): DecodedNode {
  let found = root;
  for (const name of path.split('/').filter((part) => part !== '')) {
    const child = found.children.find((candidate) => candidate.name === name);
    if (child === undefined) throw new Error(`device tree: no ${path}`);
    found = child;
  }
  return found;
}

/** A tree as source text, values shown as strings when they can be, else cells, else bytes. */
export function printTree(tree: DecodedNode, indent = ''): string {
  let out = `${indent}${tree.name || '/'} {\n`;
  for (const [key, value] of tree.properties) {
    out += `${indent}\t${key}${value.length === 0 ? '' : ` = ${printValue(value)}`};\n`;
  }
  for (const child of tree.children) out += printTree(child, `${indent}\t`);
  return `${out}${indent}};\n`;
}

function printValue(value: Uint8Array): string {
  const text = new TextDecoder('latin1').decode(value);
  if (/^([\x20-\x7e]+\0)+$/.test(text)) {
    return text
      .slice(0, -1)
      .split('\0')
      .map((part) => `"${part}"`)
      .join(', ');
  }
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  if (value.length % 4 !== 0) return `[${Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join(' ')}]`;
  const cells = Array.from({ length: value.length / 4 }, (_, i) => `0x${view.getUint32(i * 4).toString(16)}`);
  return `<${cells.join(' ')}>`;
}
