/** The `goldcopy` command: an entry point that binds `run.ts` to this process, its terminal and a socket. */
import { closeSync, openSync, readSync, writeFileSync } from "node:fs";
import { openApplianceImage } from "../../hal/linux/appliance_image.ts";
import { linuxBundleSource } from "../../hal/linux/bundle_source.ts";
import { linuxSignatureCheck, readKeyFile } from "../../hal/linux/signature_check.ts";
import { askAppliance } from "./ask.ts";
import { runGoldcopy } from "./run.ts";

const defaultSocket = "/run/goldcopy/goldcopy.sock";

/** A reader that goes away (`| head`) ends the command; the operation at the appliance goes on. */
process.stdout.on("error", () => process.exit(1));

/** Progress lines steer the cursor themselves. */
function withNewline(text: string): string {
  return text.endsWith("\n") || text.endsWith("\r") ? text : `${text}\n`;
}

/** Of a file that an option names: more than any that is right. */
const readBytesMax = 4096;

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
  readFile: (path) => {
    try {
      const bytes = new Uint8Array(readBytesMax);
      const fd = openSync(path, "r");
      try {
        return { text: new TextDecoder().decode(bytes.subarray(0, readSync(fd, bytes))) };
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      return { fault: error instanceof Error ? error.message : String(error) };
    }
  },
  updates: {
    image: openApplianceImage,
    source: linuxBundleSource,
    check: linuxSignatureCheck,
    keyFile: readKeyFile,
  },
});
process.exitCode = code;
