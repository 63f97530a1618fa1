/** Options of the command line that have one value, and are given twice. */

import type { Command, Option } from 'commander';

/** Has a command, and all below it, refuse a second value for an option that is not there to be repeated. */
export function refuseRepeats(command: Command): Command {
  for (const option of command.options) if (hasOneValue(option)) refuseRepeat(command, option);
  for (const inner of command.commands) refuseRepeats(inner);
  return command;
}

/** Those that may be repeated collect their values in an array. */
function hasOneValue({ required, optional, variadic, defaultValue }: Option): boolean {
  return (required || optional) && !variadic && !Array.isArray(defaultValue);
}

function refuseRepeat(command: Command, option: Option): void {
  let given = false;
  command.on(`option:${option.name()}`, () => {
    if (given) command.error(`error: option '${option.flags}' is given twice; give it once`);
    given = true;
  });
}
