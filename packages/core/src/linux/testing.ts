/** Tables as a kernel has them, made for tests. */

/** A symbol table; `early` is the layout up to Linux 6.1. Names use letters that are tokens of their own, and the two pairs below. */
export function kallsyms(
  symbols: readonly { readonly name: string; readonly type: string; readonly address: bigint }[],
  relativeBase: bigint,
  early: boolean,
): Uint8Array {
  const tokens = Array.from({ length: 256 }, (_, i) => (i > 32 && i < 127 ? String.fromCharCode(i) : ''));
  tokens[1] = 'ab';
  tokens[2] = 'cd';
  tokens[200] = 'gh_';
  const names: number[] = [];
  const markers: number[] = [];
  for (const [i, { type, name }] of symbols.entries()) {
    if (i % 256 === 0) markers.push(names.length);
    const packed = [type.charCodeAt(0)];
    for (let at = 0; at < name.length; ) {
      const longer = [200, 1, 2].find((token) => name.startsWith(tokens[token]!, at));
      packed.push(longer ?? name.charCodeAt(at));
      at += longer === undefined ? 1 : tokens[longer]!.length;
    }
    names.push(
      ...(packed.length < 128 ? [packed.length] : [(packed.length & 127) | 128, packed.length >> 7]),
      ...packed,
    );
  }
  const parts: Uint8Array[] = [];
  const put = (bytes: Uint8Array) => {
    const padded = new Uint8Array(Math.ceil(bytes.length / 8) * 8);
    padded.set(bytes);
    parts.push(padded);
  };
  const words = (values: readonly number[]) => new Uint8Array(Uint32Array.from(values).buffer);
  const addresses = () => {
    put(words(symbols.map(({ address }) => Number(address - relativeBase))));
    put(new Uint8Array(BigUint64Array.of(relativeBase).buffer));
  };
  if (early) addresses();
  put(words([symbols.length]));
  put(Uint8Array.from(names));
  put(words(markers));
  put(new TextEncoder().encode(tokens.map((token) => `${token}\0`).join('')));
  let offset = 0;
  put(new Uint8Array(Uint16Array.from(tokens, (token) => (offset += token.length + 1) - token.length - 1).buffer));
  if (!early) addresses();
  const table = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    table.set(part, at);
    at += part.length;
  }
  return table;
}

/** A type description of structs; a member of type 0 is a word. */
export function btf(
  structs: readonly {
    readonly name: string;
    readonly members: readonly { readonly name: string; readonly type: number; readonly bits: number }[];
  }[],
): Uint8Array {
  let strings = '\0';
  const text = (name: string) => {
    if (name === '') return 0;
    strings += `${name}\0`;
    return strings.length - name.length - 1;
  };
  const types = structs.flatMap(({ name, members }) => [
    text(name),
    (4 << 24) | members.length,
    64,
    ...members.flatMap((member) => [text(member.name), member.type, member.bits]),
  ]);
  const typeBytes = new Uint8Array(Uint32Array.from(types).buffer);
  const stringBytes = new TextEncoder().encode(strings);
  const header = Uint32Array.of(0x1eb9f, 24, 0, typeBytes.length, typeBytes.length, stringBytes.length);
  return new Uint8Array([...new Uint8Array(header.buffer), ...typeBytes, ...stringBytes]);
}
