/**
 * A host with a verified load (`verified_load.ts`) as a process of its own, so that it can be in another network than who watches it.
 * Its argument is the load as JSON. It answers each line that it reads with one of JSON, and ends with its input:
 *
 *     more COUNT     when so many more requests have been answered: {"answers": N}
 *     mark           now something happens
 *     gap            the longest wait since: {"ms": N}
 *     finish         lets what is under way end, reads every block: the load's report
 *
 * The first line comes unasked, when every block has been written once.
 */
import { createInterface } from "node:readline";
import { VerifiedLoad, type VerifiedLoadOptions } from "./verified_load.ts";

const load = new VerifiedLoad(JSON.parse(process.argv[2] ?? "{}") as VerifiedLoadOptions);

async function obey(line: string): Promise<unknown> {
  const [word, count] = line.split(" ");
  switch (word) {
    case "more":
      await load.more(Number(count));
      return { answers: load.answers };
    case "mark":
      load.mark();
      return {};
    case "gap":
      return { ms: load.gap.ms };
    case "finish":
      return await load.finish();
    default:
      throw new Error(`there is no command ${word}`);
  }
}

const input = createInterface({ input: process.stdin });
input.on("close", () => process.exit(0));
await load.start();
console.log(JSON.stringify({ answers: load.answers }));
input.on("line", async (line) => console.log(JSON.stringify(await obey(line))));
