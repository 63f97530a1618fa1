/** The commands that work on recordings, as the command line has them. */

import { type Command, InvalidArgumentError } from 'commander';
import { DESTINATION_HELP } from './destination.ts';
import type { GdbFlags } from './gdb.ts';
import type { JsonFlag } from './recording-info.ts';
import type { ReplayFlags } from './replay.ts';
import type { ThreadsFlags } from './threads.ts';
import type { FunctionsFlags, SyscallsFlags } from './trace.ts';

const REPLAY_EXIT_CODES = `
Exit codes:
  0        the replay was the run that was recorded
  1        it was not: where they differ is said
  2        wrong usage, or a file that is no recording
  125      the replay failed
  130      it was interrupted
`;

const TRACE_EXIT_CODES = `
Exit codes:
  0        it is done
  2        wrong usage, or a file that is no recording
  125      the replay failed, or no Linux kernel is in it
  130      it was interrupted
`;

const GDB_HELP = `
Without --run it waits for gdb, and says where, until it is ended by Ctrl-C:
  (gdb) target remote /tmp/braid-gdb-XXXXXX/socket
With --run it starts gdb-multiarch (or what GDB of the environment names), connected; what is behind "--" are its arguments:
  braid gdb run.rec --run -- program.elf -ex "break complain" -ex continue

Exit codes: gdb's own with --run; 2 wrong usage, or a file that is no recording; 128+N ended by signal N
`;

/** Adds them; `rest` is what is behind \`--\` of the command line. */
export function addRecordingCommands(program: Command, rest: readonly string[] | undefined): void {
  const done = (code: number) => {
    process.exitCode = code;
  };
  const add = (parent: Command, name: string, what: string) =>
    parent.command(name).description(what).argument('<recording>', 'file that "braid run --record" has written');
  const json = (command: Command) => command.option('--json', 'print the result as JSON');

  json(add(program, 'info', 'show what is in a recording: machine, length, size')).action(
    async (path: string, flags: JsonFlag) => {
      const { info } = await import('./recording-info.ts');
      info(path, flags);
    },
  );
  json(add(program, 'marks', 'list the marks of a recording: moments with a name')).action(
    async (path: string, flags: JsonFlag) => {
      const { marks } = await import('./recording-info.ts');
      marks(path, flags);
    },
  );
  json(add(program, 'replay', 'replay a recording: shows its console, and compares its states with those recorded'))
    .option('--to <moment>', 'stop there')
    .option('--console', "show the guest's console, also of a run that had a command and did not show it")
    .option('--replay-only <ids...>', 'run replay-only code with these numbers, or all, and show what it says', codes)
    .addHelpText('after', DESTINATION_HELP + REPLAY_EXIT_CODES)
    .action(async (path: string, flags: ReplayFlags) => {
      const { replay } = await import('./replay.ts');
      done(await replay(path, flags));
    });
  json(add(program, 'gdb', 'debug a recording with gdb, forwards and backwards'))
    .usage('RECORDING [options] [-- GDB ARGUMENT...]')
    .option('--socket <path>', 'Unix socket for gdb to connect to; by default one in a new folder for temporary files')
    .option('--port <n>', 'instead: TCP port of 127.0.0.1, 0 for any', port)
    .option('--tasks', "show the tasks of the guest's Linux that do not run as threads too")
    .option('--run', 'start gdb, connected')
    .addHelpText('after', GDB_HELP)
    .action(async (path: string, flags: GdbFlags) => {
      const { gdb } = await import('./gdb.ts');
      done(await gdb(path, flags, rest));
    });

  spanned(json(add(program, 'threads', 'show what the tasks of the guest did: who ran where, waited, was woken')))
    .option('--trace <file>', 'write all of it as a Chrome trace, which ui.perfetto.dev opens')
    .option('--top <n>', 'how many tasks are shown: those that ran longest', number, 40)
    .option('--events <n>', 'how many switches, calls and so on are kept, 34 bytes each', number)
    .addHelpText('after', DESTINATION_HELP + TRACE_EXIT_CODES)
    .action(async (path: string, flags: ThreadsFlags) => {
      const { threads } = await import('./threads.ts');
      done(await threads(path, flags));
    });
  const trace = program.command('trace').description('find out from a recording what programs in it did');
  spanned(json(add(trace, 'syscalls', 'show the system calls of programs, as strace does')))
    .option(
      '--process <name>',
      'of this program only, by its name in the kernel (15 bytes); may be repeated',
      collect,
      [],
    )
    .option('--pid <n>', 'of this task only; may be repeated', pids, [])
    .option('--follow', 'and of what those start')
    .option('--calls <names>', 'these calls only: openat,read,write', (names: string) => names.split(','))
    .addHelpText('after', `\nWith --json each line is a record.\n${DESTINATION_HELP}${TRACE_EXIT_CODES}`)
    .action(async (path: string, flags: SyscallsFlags) => {
      const { traceSyscalls } = await import('./trace.ts');
      done(await traceSyscalls(path, flags));
    });
  spanned(
    json(add(trace, 'functions', 'count the calls and the steps of functions: a profile, and what was never called')),
  )
    .option('--elf <program>', 'the program: the file that ran, with its symbols')
    .option('--kernel', "the guest's kernel instead")
    .option('--process <name>', 'in processes of this name only (15 bytes); may be repeated', collect, [])
    .option('--pid <n>', 'in this process only; may be repeated', pids, [])
    .option('--tree', 'show who called whom')
    .option('--coverage', 'show which functions were never called')
    .option('--folded <file>', 'write call paths and their steps, a line each, as flame graphs are drawn from')
    .addHelpText('after', `\nWith --json each line is a record.\n${DESTINATION_HELP}${TRACE_EXIT_CODES}`)
    .action(async (path: string, flags: FunctionsFlags) => {
      const { traceFunctions } = await import('./trace.ts');
      done(await traceFunctions(path, flags));
    });
}

function codes(text: string, before: readonly bigint[] | 'all' = []): readonly bigint[] | 'all' {
  if (text === 'all' || before === 'all') return 'all';
  if (!/^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(text) || BigInt(text) >= 1n << 64n) {
    throw new InvalidArgumentError('Give numbers of 64 bits, or all.');
  }
  return [...before, BigInt(text)];
}

/** A part of the recording. */
function spanned(command: Command): Command {
  return command
    .option('--from <moment>', 'begin there, and not where the recording does')
    .option('--to <moment>', 'end there');
}

function collect(value: string, all: readonly string[]): string[] {
  return [...all, value];
}

function pids(text: string, all: readonly number[]): number[] {
  if (!/^\d{1,7}$/.test(text)) throw new InvalidArgumentError('Give the number of a task.');
  return [...all, Number(text)];
}

function number(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give a whole number.');
  return Number(text);
}

function port(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new InvalidArgumentError('Give 0 to 65535.');
  return Number(text);
}
