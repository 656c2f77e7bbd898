/** Sessions as well-behaved NBD hosts have them, one per feature, and some that are refused. */
import { bytesOf, command, goData, metaData, option } from "../unit/support/nbd_host.ts";
import { pattern } from "../unit/support/nbd_session.ts";
import type { Script } from "./target.ts";

const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN] = [1, 2, 4, 8, 16, 32] as const;

/** Fixed newstyle, no zeroes. */
const flags = bytesOf({ u32: 3 });
const context = "base:allocation";

/** Every command once, and each with what it refuses. */
function commands(extended: boolean): Uint8Array[] {
  const say = (fields: Parameters<typeof command>[0]) => command({ ...fields, extended });
  const carries = extended ? PAYLOAD_LEN : 0;
  const filter = bytesOf({ u64: 4096n }, { u32: 1 });
  return [
    say({ command: WRITE, cookie: 1n, offset: 0, payload: pattern(4096), flags: carries }),
    say({ command: WRITE, cookie: 2n, offset: 4096, payload: pattern(512, 2), flags: FUA | carries }),
    say({ command: READ, cookie: 3n, offset: 0, length: 4096 }),
    say({ command: READ, cookie: 4n, offset: 4096, length: 65536, flags: DF }),
    say({ command: FLUSH, cookie: 5n }),
    say({ command: TRIM, cookie: 6n, offset: 512, length: 8192, flags: FUA }),
    say({ command: CACHE, cookie: 7n, offset: 0, length: 65536 }),
    say({ command: ZEROES, cookie: 8n, offset: 8192, length: 4096, flags: NO_HOLE }),
    say({ command: ZEROES, cookie: 9n, offset: 0, length: 131072, flags: FAST_ZERO }),
    say({ command: STATUS, cookie: 10n, offset: 0, length: 131072 }),
    say({ command: STATUS, cookie: 11n, offset: 4096, length: 4096, flags: REQ_ONE }),
    say({ command: READ, cookie: 12n, offset: 131072, length: 512 }),
    say({ command: WRITE, cookie: 13n, offset: 1, payload: pattern(60), flags: carries }),
    ...(extended ? [say({ command: STATUS, cookie: 14n, payload: filter, flags: PAYLOAD_LEN })] : []),
    say({ command: DISC, cookie: 15n }),
  ];
}

export function nbdCorpus(volume: string): Script[] {
  const go = option(7, goData(volume, [1, 2, 3]));
  const select = option(10, metaData(volume, [context]));
  return [
    [flags, go, ...commands(false)],
    [flags, option(8), select, go, ...commands(false)],
    [flags, option(11), select, go, ...commands(true)],
    [flags, option(1, bytesOf(volume)), ...commands(false)],
    [bytesOf({ u32: 0 }), option(1, bytesOf(volume)), ...commands(false)],
    [flags, option(3), option(6, goData(volume, [0, 1, 2, 3])), option(6, goData("nowhere")), option(2)],
    [flags, option(8), option(9, metaData(volume, [])), option(9, metaData(volume, ["base:", "x:y"])), option(2)],
    [flags, option(5), option(8), select, go, ...commands(false)],
    [flags, option(5), option(5), option(11), go, ...commands(true)],
    [flags, option(8), option(11), option(8), option(99, pattern(64)), option(4), option(2)],
    [flags, option(7, goData("")), option(7, goData("golden")), ...commands(false)],
  ];
}
