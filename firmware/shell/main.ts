/** The `goldcopy` command: an entry point that binds `run.ts` to this process, its terminal and a socket. */
import { writeFileSync } from "node:fs";
import { askAppliance } from "./ask.ts";
import { runGoldcopy } from "./run.ts";

const defaultSocket = "/run/goldcopy/goldcopy.sock";

/** A reader that goes away (`| head`) ends the command; the operation at the appliance goes on. */
process.stdout.on("error", () => process.exit(1));

/** Progress lines steer the cursor themselves. */
function withNewline(text: string): string {
  return text.endsWith("\n") || text.endsWith("\r") ? text : `${text}\n`;
}

const code = await runGoldcopy(process.argv.slice(2), {
  ask: askAppliance,
  defaultAt: process.env["GOLDCOPY_AT"] || defaultSocket,
  out: (text) => process.stdout.write(withNewline(text)),
  err: (text) => process.stderr.write(withNewline(text)),
  outIsTerminal: process.stdout.isTTY === true,
  errIsTerminal: process.stderr.isTTY === true,
  colour: process.stdout.isTTY === true && process.env["NO_COLOR"] === undefined && process.env["TERM"] !== "dumb",
  sleep: (delayMs) => new Promise((resolve) => setTimeout(resolve, delayMs)),
  writeFile: (path, text) => {
    try {
      writeFileSync(path, text);
      return null;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  },
});
process.exitCode = code;
