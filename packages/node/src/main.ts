/** The `braid` command. Acts when it is imported. */

import { warmUp } from './pool/thread.ts';

const args = process.argv.slice(2);
// The machine's thread needs as long to start as all the rest here: it goes first.
if (
  ['run', 'tour', 'explore', 'replay', 'gdb'].includes(args[0] ?? '') &&
  !args.includes('--help') &&
  !args.includes('-h')
)
  warmUp();

const { main } = await import('./cli.ts');
await main(args);
