/**
 * Commits transfers to a SQLite file until its standard input ends, and prints `WORKER NUMBER` after each commit.
 * Arguments: the file, and for each worker the number of its first transfer.
 */
import { transactionSql, transferOf } from "./ledger.ts";
import { openDurably } from "./sqlite.ts";

const [file, ...first] = process.argv.slice(2);
const next = first.map(Number);
const database = openDurably(file!);
let isStopping = false;
process.stdin.on("end", () => {
  isStopping = true;
});
process.stdin.resume();

function commitOne(worker: number): void {
  const transfer = transferOf(worker, next[worker]!++);
  for (const sql of transactionSql(transfer)) database.run(sql);
  process.stdout.write(`${worker} ${transfer.number}\n`);
}

for (let turn = 0; !isStopping; turn++) {
  commitOne(turn % next.length);
  // Lets the end of the input in.
  await new Promise((resolve) => setImmediate(resolve));
}
database.close();
process.exit(0);
