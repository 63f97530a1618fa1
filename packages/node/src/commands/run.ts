/** `braid run`: a machine on this terminal, for one command, or for a program of its own. */

import { fstatSync } from 'node:fs';
import { constants } from 'node:os';
import type { Exit } from '@braid/core/machine/options.ts';
import { decodeText } from '@braid/core/text/guest-text.ts';
import { EXIT, explain } from '../cli.ts';
import { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import { piecesOf } from '../pieces.ts';
import type { Program } from '../programs.ts';
import { createOptions, type RunFlags } from './flags.ts';
import { HANGUP, type LostOutput, takeLostOutput } from './lost-output.ts';
import { ResultFile } from './result-file.ts';
import { awaitDebugger } from './run-debugger.ts';
import { RunRecorder } from './run-recorder.ts';
import { note, printJson, tell } from './say.ts';
import { Terminal } from './terminal.ts';

/** How long a guest may take to power off before it is ended. */
const POWER_OFF_MS = 15_000;
/** How long its agent may take to answer before that. */
const ANSWER_MS = 1000;
/** Bytes of a command's input that are sent at a time. */
const INPUT_PIECE = 256 * 1024;

/** How a run ended: for `--stats`, and as our exit code. */
export interface Ending {
  readonly reason: string;
  readonly code: number;
}

export async function run(
  image: string | undefined,
  flags: RunFlags,
  command: readonly string[] | undefined,
  version: string,
): Promise<number> {
  if (command?.length === 0)
    throw new BraidError('ERR_BRAID_OPTION', 'there is no command after "--"; give one, or leave "--" out');
  if (command && flags.bare !== undefined)
    throw new BraidError('ERR_BRAID_OPTION', 'a bare program runs no commands; leave "--" out');
  const isTerminal = Boolean(process.stdin.isTTY && process.stdout.isTTY);
  if (flags.tty && !isTerminal) throw new BraidError('ERR_BRAID_OPTION', '--tty needs a terminal; leave it out');
  const interactive = isTerminal && (command === undefined || Boolean(flags.tty));
  // A program at the other end of a pipe types like a person: between its lines the guest waits in real time.
  const typed = !command && flags.bare === undefined && isPipe(0);
  const time = flags.time ?? (interactive || typed ? 'wall' : 'virtual');
  const marks = flags.guestMarks === undefined ? {} : { hints: { mark: flags.guestMarks } };
  const options = { ...createOptions(image, flags, time), ...marks };
  if (!command && (flags.execTimeout !== undefined || flags.execMaxSteps !== undefined))
    throw new BraidError(
      'ERR_BRAID_OPTION',
      '--exec-timeout and --exec-max-steps are limits of a command; add "-- COMMAND"',
    );
  // A result that could not be written is better known before the run.
  using stats = flags.stats === undefined ? undefined : new ResultFile(flags.stats);
  using signature = flags.signature === undefined ? undefined : new ResultFile(flags.signature);
  if (flags.record === undefined && flags.mark && flags.mark.length > 0)
    throw new BraidError('ERR_BRAID_OPTION', '--mark marks moments of a recording; add --record FILE');

  for (;;) {
    const session = new Session(await Machine.create(options), flags, interactive, time === 'virtual');
    const { machine } = session;
    try {
      if (flags.signature !== undefined && !machine.hasSignature) {
        throw new BraidError(
          'ERR_BRAID_OPTION',
          'the program has no symbols begin_signature and end_signature; leave --signature out',
        );
      }
      if (interactive) {
        note(`Braid ${version}, seed ${machine.seed}. Ctrl-] h for help, Ctrl-] q to leave.`);
      } else if (flags.seed === undefined) tell(`seed ${machine.seed}`);
      const recorder = await RunRecorder.of(machine, flags, image, command);
      const left = flags.gdb === undefined ? undefined : await awaitDebugger(machine, flags.gdb);
      const writable = options.disks!.some((disk) => !(disk as { readOnly: boolean }).readOnly);
      const ran = left ?? (await session.run(command, writable));
      session.terminal?.restore();
      const ending = recorder ? await recorder.end(ran) : ran;
      // Somebody who sits there expects a computer that comes up again; a run for its results ends.
      if (ending.reason === 'reboot' && interactive && !command && !recorder) continue;
      signature?.write([signatureLines(await machine.signature())]);
      if (stats || flags.json) await report(machine, ending, stats, flags);
      return session.lost?.code ?? ending.code;
    } finally {
      session.close();
      await machine.dispose().catch((error) => {
        // Who left has his exit code all the same.
        if (!session.interrupted) throw error;
        tell((error as Error).message);
      });
    }
  }
}

/** A machine that stands still gets this terminal, in the time of its user, until one of the two goes. The exit code. */
export async function shell(machine: Machine, flags: RunFlags): Promise<number> {
  await machine.setTime('wall');
  const session = new Session(machine, flags, true, false);
  try {
    return (await session.run(undefined, false)).code;
  } finally {
    session.close();
  }
}

class Session {
  readonly machine: Machine;
  terminal: Terminal | undefined;
  /** A signal has ended it, or the end of its output. */
  interrupted = false;
  /** Its output has ended, perhaps behind its own end: what is left to be done is done all the same. */
  lost: LostOutput | undefined;
  private readonly giveOutputBack: () => void;
  private readonly stopProgram = new AbortController();
  private hurry: () => void = () => {};
  private readonly flags: RunFlags;
  private readonly interactive: boolean;
  /** Whether guest time is apart from ours. */
  private readonly virtual: boolean;
  private program: Program | undefined;
  /** Ends the session from outside the machine. */
  private leave: (ending: Ending) => void = () => {};
  private readonly left: Promise<Ending>;

  constructor(machine: Machine, flags: RunFlags, interactive: boolean, virtual: boolean) {
    this.machine = machine;
    this.flags = flags;
    this.interactive = interactive;
    this.virtual = virtual;
    this.left = new Promise((resolve) => {
      this.leave = resolve;
    });
    this.giveOutputBack = takeLostOutput((lost) => {
      this.lost = lost;
      this.interrupt(lost);
    });
  }

  /** Gives the terminal back, and the end of our output. */
  close(): void {
    this.terminal?.restore();
    this.giveOutputBack();
  }

  async run(command: readonly string[] | undefined, sync: boolean): Promise<Ending> {
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
    const caught = signals.map((signal) => {
      const handler = () => this.interrupt({ reason: signal, code: 128 + constants.signals[signal] });
      process.on(signal, handler);
      return () => void process.off(signal, handler);
    });
    try {
      const work = command ? this.runCommand(command, sync) : this.runConsole();
      let left = false;
      this.left.then(() => {
        left = true;
      });
      // Who leaves ends what is under way: that is no failure.
      const finished = work.catch((error) => (left ? this.left : ended(error)));
      const ending = await Promise.race([finished, this.left]);
      if (this.interrupted && sync) await this.settle();
      return ending;
    } finally {
      for (const release of caught) release();
      // Input that does not end must not keep a process that has been told to.
      if (this.flags.input) process.stdin.destroy();
    }
  }

  /** Ends the session in order; told again, at once. */
  private interrupt(ending: Ending): void {
    // A terminal that goes says so in several ways at once.
    if (this.interrupted && ending.reason !== HANGUP.reason) this.hurry();
    this.interrupted = true;
    this.leave(ending);
  }

  /** What an end owes to disks that are written: the program ends, and the guest writes what it holds and powers off. */
  private async settle(): Promise<void> {
    const { machine } = this;
    this.stopProgram.abort();
    const hurried = new Promise<void>((resolve) => {
      this.hurry = resolve;
    });
    const orderly = async () => {
      await machine.boot({ signal: AbortSignal.timeout(ANSWER_MS) });
      await machine.shutdown({ signal: AbortSignal.timeout(POWER_OFF_MS) });
    };
    const done = orderly().catch((error: BraidError) => {
      if (error.code !== 'ERR_BRAID_EXITED') tell(`the guest was not powered off: ${error.message}`);
    });
    await Promise.race([done, hurried]);
  }

  /** The console is the user's until the machine ends. */
  private async runConsole(): Promise<Ending> {
    const { machine } = this;
    if (this.interactive) {
      const terminal = this.takeTerminal((bytes) => void machine.type(bytes).catch(() => {}));
      machine.onConsole((bytes) => terminal.show(bytes));
    } else {
      machine.onConsole((bytes) => write(process.stdout, bytes));
      this.feedConsole();
    }
    return this.ended(machine.wait({ live: true, passive: this.interactive }));
  }

  private async ended(wait: Promise<Exit>): Promise<Ending> {
    const exit = await wait;
    if (exit.kind === 'reboot' && !this.interactive) {
      tell('the guest asked for a reboot; this run ends here');
    }
    return { reason: exit.kind, code: Math.min(exit.code, 255) };
  }

  private takeTerminal(type: (bytes: Uint8Array) => void): Terminal {
    const { machine } = this;
    this.terminal = new Terminal({
      type,
      leave: () => this.leave({ reason: 'left', code: 0 }),
      lost: () => this.interrupt(HANGUP),
      powerOff: () => void this.powerOff(),
      resized: (columns, rows) => {
        if (this.program) return this.program.resize(columns, rows);
        machine.resize(columns, rows);
        void this.resizeSerial(columns, rows);
      },
    });
    this.terminal.start();
    return this.terminal;
  }

  /** A serial line has no size of its own: the agent, where there is one, tells the guest's driver. */
  private async resizeSerial(columns: number, rows: number): Promise<void> {
    try {
      await this.machine.boot();
      await this.machine.exec(['stty', '-F', '/dev/ttyS0', 'rows', String(rows), 'cols', String(columns)]);
    } catch {
      // The guest has no such agent, or no such line, or is over.
    }
  }

  private async powerOff(): Promise<void> {
    const { machine, terminal } = this;
    const gone = (why: string) => {
      terminal?.say([`Braid: ${why}; the machine ends as it stands.`]);
      this.leave({ reason: 'left', code: 0 });
    };
    try {
      await machine.boot({ signal: AbortSignal.timeout(1000) });
      await machine.shutdown({ signal: AbortSignal.timeout(POWER_OFF_MS) });
      this.leave({ reason: 'poweroff', code: 0 });
    } catch (error) {
      if ((error as BraidError).code !== 'ERR_BRAID_EXITED') gone('the guest does not answer');
    }
  }

  /** Our standard input is typed on the console: a file as the guest reads it, anything else as it comes. */
  private feedConsole(): void {
    const { machine } = this;
    const { stdin } = process;
    if (stdin.isTTY) return;
    if (isFile(0)) {
      machine.type(stdin).then(
        () => machine.endInput(),
        () => {},
      );
      return;
    }
    stdin.on('data', (bytes: Uint8Array) => {
      stdin.pause();
      machine.type(bytes).then(
        () => stdin.resume(),
        () => {},
      );
    });
    stdin.on('end', () => machine.endInput());
    stdin.on('error', () => machine.endInput());
    stdin.unref?.();
  }

  /** One command, through the agent. All that it needs is asked for before the first step. */
  private async runCommand(argv: readonly string[], sync: boolean): Promise<Ending> {
    const { machine, flags } = this;
    const error = (bytes: Uint8Array) => write(process.stderr, bytes);
    let ending: Ending;
    const { execMaxSteps: maxSteps, execTimeout: maxGuestTime } = flags;
    const limits = {
      ...(maxSteps === undefined ? {} : { maxSteps }),
      ...(maxGuestTime === undefined ? {} : { maxGuestTime }),
    };
    // What the kernel says while it cannot be asked is of interest when it fails.
    let last = new Uint8Array(0);
    machine.onConsole((bytes) => {
      last = new Uint8Array(Buffer.concat([last, bytes]).subarray(-4096));
    });
    const panicked = machine.on('panic', () => {
      note(printable(last));
    });
    try {
      if (flags.tty) {
        const { columns, rows } = process.stdout;
        const program = machine.spawn(argv, {
          ...limits,
          signal: this.stopProgram.signal,
          input: 'stream',
          terminal: { columns: columns || 80, rows: rows || 24 },
        });
        this.program = program;
        const input = program.stdin.getWriter();
        const terminal = this.takeTerminal((bytes) => void input.write(bytes).catch(() => {}));
        await machine.run();
        for await (const bytes of program.stdout) await terminal.show(bytes);
        const { exitCode } = await program.exited;
        terminal.restore();
        ending = { reason: 'exec', code: exitCode };
      } else {
        const input = flags.input ? { input: this.timed(process.stdin) } : {};
        const { exitCode } = await machine.exec(argv, {
          ...limits,
          ...input,
          signal: this.stopProgram.signal,
          onStdout: (bytes) => write(process.stdout, bytes),
          onStderr: error,
        });
        ending = { reason: 'exec', code: exitCode };
      }
    } catch (failure) {
      const { code, kind, message } = failure as BraidError;
      if (code === 'ERR_BRAID_EXEC_LIMIT') ending = this.limitReached(kind === 'steps');
      else if (kind !== 'refused') throw failure;
      else return this.notExecuted(message);
    } finally {
      panicked();
    }
    // A file system on a disk of the user's must be left in order, whatever kind of guest it is.
    if (sync) {
      try {
        await machine.exec(['sync']).catch(() => {}); // not every guest has it
        await machine.shutdown();
      } catch (failure) {
        tell(`the guest was not powered off: ${(failure as BraidError).message}`);
      }
    }
    return ending;
  }

  /** Input of a command: in virtual time in pieces that a pipe does not decide, so that runs are the same. */
  private timed(stream: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    return this.virtual ? piecesOf(stream, INPUT_PIECE) : stream;
  }

  private notExecuted(message: string): Ending {
    tell(message);
    return { reason: 'exec', code: message.includes('No such file') ? EXIT.notFound : EXIT.cannotExecute };
  }

  private limitReached(steps: boolean): Ending {
    this.terminal?.restore();
    const option = steps ? '--exec-max-steps' : '--exec-timeout';
    tell(`the command was ended: ${option} is reached`);
    return { reason: 'exec-limit', code: EXIT.maxSteps };
  }
}

/** The end of a run that failed. */
function ended(error: unknown): Ending {
  const { code } = error as BraidError;
  const reasons: Readonly<Record<string, string>> = {
    ERR_BRAID_MAX_STEPS: 'max-steps',
    ERR_BRAID_PANIC: 'panic',
    ERR_BRAID_HALTED: 'halt',
    ERR_BRAID_EXITED: 'exited',
  };
  return { reason: reasons[code] ?? 'error', code: explain(error) };
}

function write(stream: NodeJS.WriteStream, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    stream.write(bytes, () => resolve());
  });
}

function isFile(fd: number): boolean {
  return statOf(fd)?.isFile() ?? false;
}

function isPipe(fd: number): boolean {
  const stat = statOf(fd);
  return stat !== undefined && (stat.isFIFO() || stat.isSocket());
}

function statOf(fd: number) {
  try {
    return fstatSync(fd);
  } catch {
    return undefined; // closed
  }
}

/** Text of the guest, with its lines ended as ours are. */
function printable(bytes: Uint8Array): string {
  return decodeText(bytes).replaceAll('\r\n', '\n').trim();
}

/** One 32-bit word a line, in hexadecimal. */
function signatureLines(bytes: Uint8Array): string {
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  const view = new DataView(padded.buffer);
  let text = '';
  for (let at = 0; at < padded.length; at += 4) text += `${view.getUint32(at, true).toString(16).padStart(8, '0')}\n`;
  return text;
}

async function report(
  machine: Machine,
  { reason, code }: Ending,
  file: ResultFile | undefined,
  flags: RunFlags,
): Promise<void> {
  const stats = await machine.stats();
  const seconds = stats.hostSeconds;
  const record = {
    steps: Number(stats.steps),
    instructions: Number(stats.instructions),
    hostSeconds: seconds,
    mips: seconds > 0 ? Number(stats.instructions) / seconds / 1e6 : 0,
    guestSeconds: stats.guestSeconds,
    perHart: stats.perHart.map(({ steps, instructions }) => ({
      steps: Number(steps),
      instructions: Number(instructions),
    })),
    exit: { reason, code },
    ...(stats.panic === undefined ? {} : { panic: stats.panic }),
    seed: String(stats.seed),
    stateHash: await machine.stateHash(),
  };
  file?.write([`${JSON.stringify(record, undefined, 2)}\n`]);
  if (flags.json) printJson(record);
}
