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

const EXIT_CODES = `
Exit codes:
  0        it is done
  2        wrong usage, or a file that is no recording
  125      the replay failed, or differs from what was recorded
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
    .option('--replay-only <id...>', 'run replay-only code with these numbers, or "all", and show what it says', codes)
    .addHelpText('after', DESTINATION_HELP + REPLAY_EXIT_CODES)
    .action(async (path: string, flags: ReplayFlags) => {
      const { replay } = await import('./replay.ts');
      done(await replay(path, flags));
    });
}

function codes(text: string, before: readonly bigint[] | 'all' = []): readonly bigint[] | 'all' {
  if (text === 'all' || before === 'all') return 'all';
  if (!/^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(text) || BigInt(text) >= 1n << 64n) {
    throw new InvalidArgumentError('Give numbers of 64 bits, or all.');
  }
  return [...before, BigInt(text)];
}
