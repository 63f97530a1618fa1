/** The command line: what commands there are, and what their errors look like. */

import { Command, CommanderError } from 'commander';
import type { ExploreFlags } from './commands/explore.ts';
import {
  addCommandOptions,
  addExploreOptions,
  addMachineOptions,
  addRecordOptions,
  count,
  type RunFlags,
} from './commands/flags.ts';
import { watchOutput } from './commands/lost-output.ts';
import { addRecordingCommands } from './commands/recording-commands.ts';
import { refuseRepeats } from './commands/repeats.ts';
import { note, safeText, tell } from './commands/say.ts';
import type { BraidError } from './errors.ts';
import { VERSION } from './version.ts';

export const EXIT = {
  /** Wrong usage, or an input that cannot be used: nothing ran. */
  usage: 2,
  /** The limit of steps is reached. */
  maxSteps: 124,
  /** The machine failed: a kernel panic, a halt, an agent that went away, an error of Braid. */
  failed: 125,
  /** The command cannot be executed in the guest; not found there. */
  cannotExecute: 126,
  notFound: 127,
} as const;

const EXIT_CODES = `
Exit codes:
  0        the guest powered off, the program passed, or the command succeeded
  1..255   the code of the command, of the bare program, or of the test finisher (above 255: 255)
  128+N    the command was ended by signal N
  2        wrong usage, or an input that cannot be used
  124      --max-steps, --exec-max-steps or --exec-timeout is reached
  125      the machine failed: kernel panic, halt, no agent
  126, 127 the command cannot be executed, or is not there
`;

const EXPLORE_EXIT_CODES = `
Exit codes:
  0        a state was found that the script accepts (or, if it accepts none, the best was)
  1        none was found
  2        wrong usage, or a script that cannot be used
  125      the machine failed
`;

/** Runs a command line; the exit code is in `process.exitCode`. */
export async function main(args: readonly string[]): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) watchOutput(stream, EXIT.failed);
  const split = args.indexOf('--');
  const own = split < 0 ? args : args.slice(0, split);
  const rest = split < 0 ? undefined : args.slice(split + 1);
  const program = new Command('braid')
    .description('A deterministic RISC-V computer that runs Linux')
    .version(VERSION, '-V, --version')
    .showHelpAfterError('("braid --help" lists commands and options)')
    .exitOverride()
    .configureOutput({ writeErr: (text) => process.stderr.write(safeText(text)) });
  program
    .command('run')
    .description('run a machine: the guest that ships, a disk image, a kernel, a firmware or a bare program')
    .argument('[image]', 'bootable disk image: the first disk, started with the kernel that ships (root=/dev/vda rw)')
    .usage('[IMAGE] [options] [-- COMMAND ARGUMENT...]');
  addCommandOptions(addRecordOptions(addMachineOptions(program.commands[0]!)))
    .addHelpText('after', EXIT_CODES)
    .action(async (image: string | undefined, flags: RunFlags) => {
      const { run } = await import('./commands/run.ts');
      process.exitCode = await run(image, flags, rest, VERSION);
    });
  addMachineOptions(
    program.command('tour').description('try repairs of a program in clones of a machine, and go on with the best'),
  ).action(async (flags: RunFlags) => {
    const { tour } = await import('./commands/tour.ts');
    process.exitCode = await tour(flags);
  });
  const exploring = program
    .command('explore')
    .description('search from a machine: try things in clones of it, side by side, and show what was found')
    .argument('<script>', 'ES module that says what is searched, and how: see docs/explore.md')
    .argument('[image]', 'bootable disk image, as for run')
    .usage('SCRIPT [IMAGE] [options] [-- ARGUMENT...]');
  addMachineOptions(exploring);
  addExploreOptions(exploring)
    .addHelpText('after', EXPLORE_EXIT_CODES)
    .action(async (script: string, image: string | undefined, flags: ExploreFlags) => {
      const { exploreCommand } = await import('./commands/explore.ts');
      process.exitCode = await exploreCommand(script, image, flags, rest ?? []);
    });
  program
    .command('bisect')
    .description('run two machines and find the first position at which they differ')
    .usage('[--every STEPS] [--max-steps N] -- [run options of A] --versus [run options of B]')
    .option('--every <steps>', 'distance of the first comparison; it doubles', count, 1_000_000n)
    .option('--max-steps <n>', 'compare up to so many steps', count, 1_000_000_000n)
    .option('--json', 'print the result as JSON')
    .action(async (flags: { every: bigint; maxSteps: bigint; json?: boolean }) => {
      const { bisect } = await import('./commands/bisect.ts');
      process.exitCode = await bisect(flags, rest ?? []);
    });
  addRecordingCommands(program, rest);
  refuseRepeats(program);
  try {
    await program.parseAsync(own.length === 0 ? ['--help'] : [...own], { from: 'user' });
  } catch (error) {
    process.exitCode = explain(error);
  }
}

/** Says on stderr what went wrong; the exit code for it. */
export function explain(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT.usage; // it has been said
  const { code, message } = error as BraidError;
  if (typeof code === 'string' && code.startsWith('ERR_BRAID_')) {
    tell(message);
    const input = [
      'ERR_BRAID_OPTION',
      'ERR_BRAID_FILE',
      'ERR_BRAID_BOOT',
      'ERR_BRAID_MACHINE',
      'ERR_BRAID_STATE',
      'ERR_BRAID_EXPLORE',
      'ERR_BRAID_RECORDING',
    ];
    return input.includes(code) ? EXIT.usage : code === 'ERR_BRAID_MAX_STEPS' ? EXIT.maxSteps : EXIT.failed;
  }
  tell(`unexpected: ${error instanceof Error ? error.stack : String(error)}`);
  note('This is a fault of Braid: please report it with the command line.');
  return EXIT.failed;
}
