/** System calls as lines of text, as `strace -f -tt -T` has them, and as records for JSON. */

import { escapeGuestText } from '../text/escape.ts';
import type { TaskIdentity } from './analysis.ts';
import { errorName, errorText, signalName } from './errno.ts';
import { hexOf } from './flags.ts';
import { signalText } from './signals.ts';
import { resultText } from './syscall-arguments.ts';
import type { SyscallDone, SyscallEvent } from './syscalls.ts';

const BILLION = 1_000_000_000n;

/** Guest time in ns as seconds. */
export function secondsText(time: bigint): string {
  return `${time / BILLION}.${(time % BILLION).toString().padStart(9, '0')}`;
}

function endText({ end, name }: SyscallDone): string {
  switch (end.kind) {
    case 'restarted':
      return '? (to be restarted)';
    case 'exited':
      return '?';
    case 'unfinished':
      return '? <unfinished ...>';
    case 'returned':
      return end.value < 0n && end.value >= -4095n
        ? `-1 ${errorText(-Number(end.value))}`
        : resultText(name, BigInt.asUintN(64, end.value));
  }
}

/** `openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3`. */
export function callText(call: SyscallDone): string {
  return `${call.name}(${call.shown.join(', ')}) = ${endText(call)}`;
}

const who = ({ pid, comm }: TaskIdentity) => `[${escapeGuestText(comm)} ${pid}]`;

/** One line, without its end: who, when the call was made, what it was, and how long it took. */
export function syscallLine(event: SyscallEvent): string {
  switch (event.kind) {
    case 'call': {
      const took = event.end.kind === 'exited' ? '' : ` <${secondsText(event.to.time - event.from.time)}>`;
      return `${who(event)} ${secondsText(event.from.time)} ${callText(event)}${took}`;
    }
    case 'signal':
      return `${who(event)} ${secondsText(event.at.time)} --- ${signalText(event.signal)} ---`;
    case 'exit': {
      const how = event.signal === 0 ? `exited with ${event.code}` : `killed by ${signalName(event.signal)}`;
      return `${who(event)} ${secondsText(event.at.time)} +++ ${how} +++`;
    }
  }
}

/** A record for JSON: plain numbers, and text for what may not fit into them. */
export function syscallRecord(event: SyscallEvent): Record<string, unknown> {
  const { kind, pid, tgid, comm, hart } = event;
  const head = { kind, pid, tgid, comm, hart };
  if (kind === 'signal') {
    const { number, code } = event.signal;
    const moment = { at: `${event.at.at}`, time: `${event.at.time}` };
    return { ...head, ...moment, signal: signalName(number), code, text: signalText(event.signal) };
  }
  if (kind === 'exit') {
    const moment = { at: `${event.at.at}`, time: `${event.at.time}` };
    return { ...head, ...moment, ...(event.signal ? { signal: signalName(event.signal) } : { code: event.code }) };
  }
  const { number, name, args, shown, pc, from, to, end } = event;
  const failed = end.kind === 'returned' && end.value < 0n && end.value >= -4095n;
  return {
    ...head,
    name,
    number,
    args: args.map(hexOf),
    shown,
    pc: hexOf(pc),
    at: `${from.at}`,
    time: `${from.time}`,
    duration: `${to.time - from.time}`,
    end: end.kind,
    ...(end.kind === 'returned' ? { result: `${end.value}` } : {}),
    ...(failed ? { error: errorName(-Number(end.value)) } : {}),
  };
}
