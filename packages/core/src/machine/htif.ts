/**
 * The host-target interface of bare-metal test programs: a doubleword `tohost` that the program writes and the host answers in
 * `fromhost`. Device 0 ends the program or proxies a system call, device 1 is a console.
 *
 * ```text
 * tohost = device (8 bits) | command (8 bits) | payload (48 bits)
 * 0 | 0 | code << 1 | 1     exit with a code
 * 0 | 0 | address           system call: eight doublewords there are number and arguments; the result goes into the first
 * 1 | 1 | byte              console output
 * ```
 */

const SYS_WRITE = 64n;
const SYS_EXIT = 93n;
const ENOSYS = -38n;
const MAX_WRITE = 64 * 1024;

export interface HtifHost {
  readonly tohost: number;
  readonly fromhost: number | undefined;
  read(address: number, into: Uint8Array): boolean;
  write(address: number, bytes: Uint8Array): boolean;
  exit(code: number): void;
  console(bytes: Uint8Array): void;
}

function word(bytes: Uint8Array, index = 0): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(8 * index, true);
}

function bytesOf(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return bytes;
}

/** Serves what stands in `tohost`, if anything. */
export function serveHtif(host: HtifHost): void {
  const request = new Uint8Array(8);
  if (!host.read(host.tohost, request)) return;
  const value = word(request);
  if (value === 0n) return;
  const device = value >> 56n;
  const command = (value >> 48n) & 0xffn;
  const payload = value & 0xffff_ffff_ffffn;
  const answer = (result: bigint) => {
    host.write(host.tohost, bytesOf(0n));
    if (host.fromhost !== undefined) host.write(host.fromhost, bytesOf(result));
  };
  if (device === 0n && command === 0n) {
    if (payload & 1n) return host.exit(Number((payload >> 1n) & 0xffff_ffffn));
    systemCall(host, Number(payload));
    return answer(1n);
  }
  if (device === 1n && command === 1n) host.console(Uint8Array.of(Number(payload & 0xffn)));
  answer((device << 56n) | (command << 48n));
}

function systemCall(host: HtifHost, address: number): void {
  const call = new Uint8Array(64);
  if (!host.read(address, call)) return;
  let result = ENOSYS;
  if (word(call) === SYS_EXIT) return host.exit(Number(word(call, 1) & 0xffff_ffffn));
  if (word(call) === SYS_WRITE) {
    const bytes = new Uint8Array(Number(word(call, 3) < BigInt(MAX_WRITE) ? word(call, 3) : BigInt(MAX_WRITE)));
    const from = word(call, 2);
    if (from < 1n << 53n && host.read(Number(from), bytes)) {
      host.console(bytes);
      result = BigInt(bytes.length);
    }
  }
  host.write(address, bytesOf(result));
}
