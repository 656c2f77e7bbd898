/** Profiles that an appliance must not start with: exit 2, one line that names file, field and remedy, nothing made. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Ended, isOneLine, scratch, TestAppliance, wipe } from "./support/appliance.ts";

interface Context {
  dir: string;
  oak: TestAppliance;
}
const test = suite<Context>("bad_profile");
const mainPath = join(import.meta.dir, "../../firmware/main.ts");

test.before(async (context) => {
  context.dir = scratch();
  context.oak = await TestAppliance.make(join(context.dir, "oak"), {
    peers: [{ array: "elm", name: "elm-a", nicPorts: [7100] }],
  });
});
test.after(async ({ dir, oak }) => {
  await oak.kill();
  wipe(dir);
});

/** What is replaced in a good profile, by what, and the field that the message must name. */
type Row = readonly [from: string | RegExp, to: string, field: string];

const rows: readonly Row[] = [
  // Not what a profile looks like.
  [/^/, "= 3\n", "profile.toml: line 1: "],
  ['name = "oak"', 'name = "oak', "profile.toml: line 2: "],
  [/$/, '[array]\nname = "twice"\n', "profile.toml: line 35: "],
  [/[\s\S]*/, "", "array: missing"],
  [/^/, "\0", "profile.toml"],
  [/^/, `#${"x".repeat(300_000)}\n`, "too long"],
  // Unknown keys, missing keys.
  [/^/, "colour = 3\n", "colour: unknown key"],
  ['name = "oak"', 'name = "oak"\nnmae = "oak"', "array.nmae: unknown key"],
  ['name = "hba1"', 'name = "hba1"\nspeed = 10', "hba[1].speed: unknown key"],
  ["slot = 0", "slot = 0\nsector = 512", "shelf[0].disk[0].sector: unknown key"],
  ['appliance = "oak-a"\n', "", "array.appliance: missing"],
  ['persistence = "battery"', "", "cache.persistence: missing"],
  [/\[log\]\nfile = .*\n/, "", "log: missing"],
  // Wrong types and ranges.
  ['name = "oak"', "name = 7", "array.name: 7"],
  ['name = "oak"', 'name = ""', "array.name"],
  ['name = "oak"', 'name = "a b"', "array.name"],
  ['name = "oak"', `name = "${"x".repeat(25)}"`, "array.name"],
  ['name = "oak"', 'name = "../oak"', "array.name"],
  ['persistence = "battery"', 'persistence = "hope"', "cache.persistence"],
  ['persistence = "battery"', "persistence = true", "cache.persistence"],
  [/size = 16777216/, 'size = "16 sacks"', "cache.size"],
  [/size = 16777216/, "size = 16777217", "cache.size"],
  [/size = 16777216/, "size = -16777216", "cache.size"],
  [/size = 16777216/, "size = 1e300", "cache.size"],
  [/size = 16777216/, "size = nan", "cache.size"],
  [/size = 16777216/, "size = 4096", "cache.size"],
  [/size = 16777216/, 'size = "1PiB"', "cache.size"],
  [/size = 536870912/, "size = 0", "shelf[0].disk[0].size"],
  [/size = 536870912/, "create = true", "shelf[0].disk[0].size: missing"],
  ["slot = 0", "slot = -1", "shelf[0].disk[0].slot"],
  ["slot = 0", "slot = 1.5", "shelf[0].disk[0].slot"],
  ["slot = 0", "slot = 256", "shelf[0].disk[0].slot"],
  ['protocol = "nbd"', 'protocol = "fcp"', "hba[0].protocol"],
  [/listen = "127.0.0.1:\d+"/, 'listen = "127.0.0.1"', "hba[0].listen"],
  [/listen = "127.0.0.1:\d+"/, 'listen = "127.0.0.1:65536"', "hba[0].listen"],
  [/listen = "127.0.0.1:\d+"/, "listen = 10809", "hba[0].listen"],
  [/socket = ".*"/, 'socket = "manage.sock"', "manage.socket"],
  [/socket = ".*"/, `socket = "/${"x".repeat(107)}"`, "manage.socket"],
  [/addresses = \[[^\]]*\]/, 'addresses = ["127.0.0.1:0"]', "peer[0].appliances[0].addresses[0]"],
  [/addresses = \[[^\]]*\]/, "addresses = []", "peer[0].appliances[0].addresses"],
  // Too few.
  [/\[\[hba\]\]\nname = "hba1"\n.*\n.*\n/, "", "hba: a list of 1"],
  [/\[\[nic\]\]\nname = "nic1"\n.*\n/, "", "nic: a list of 1"],
  [/\[\[shelf\]\][\s\S]*?(?=\[\[peer)/, "", "shelf: missing"],
  // Twice the same.
  ["[[peer]]", '[[shelf.disk]]\nslot = 0\npath = "/x"\nsize = 1048576\n[[peer]]', "shelf[0].disk[1].slot"],
  [
    "[[peer]]",
    '[[shelf]]\nname = "shelf0"\n[[shelf.disk]]\nslot = 0\npath = "/x"\nsize = 1048576\n[[peer]]',
    "shelf[1].name",
  ],
  ['name = "hba1"', 'name = "hba0"', "hba[1].name"],
  ['name = "nic1"', 'name = "hba0"', "nic[1].name"],
  [/path = ".*nvram"/, 'path = "/same"', "is the path of"],
  ['array = "elm"', 'array = "oak"', "peer[0].array"],
  ['name = "elm-a"', 'name = "oak-a"', "peer[0].appliances[0].name"],
  [/$/, "[link]\nheartbeat_ms = 500\npeer_timeout_ms = 600\n", "link.peer_timeout_ms"],
];

function bend(oak: TestAppliance, [from, to]: Row): string {
  const good = oak.profile();
  // The last row but a few wants the cache where the log is: one file for two things.
  const bent = to === 'path = "/same"' ? good.replace(from, `path = "${oak.logPath}"`) : good.replace(from, to);
  assert.is.not(bent, good, `${from} is in the profile`);
  return bent;
}

/** Judged in one process per profile: two at a time keep two cores busy. */
function judge(oak: TestAppliance, profile: string, name: string): Promise<Ended> {
  const dir = join(oak.dir, name);
  mkdirSync(dir);
  const path = join(dir, "profile.toml");
  writeFileSync(path, profile);
  const child = Bun.spawn([process.execPath, mainPath, "--profile", path], { stdout: "ignore", stderr: "pipe" });
  return Promise.all([child.exited, new Response(child.stderr).text()]).then(([code, err]) => ({ code, err }));
}

test("every kind of bad profile -> exit 2, one line with file, field and remedy; nothing is made", async ({ oak }) => {
  const waiting = rows.entries();
  const worker = async () => {
    for (const [index, row] of waiting) {
      const { code, err } = await judge(oak, bend(oak, row), `row-${index}`);
      const what = `${row[0]} -> ${row[1].slice(0, 60)}: ${err}`;
      assert.is(code, 2, what);
      assert.ok(isOneLine(err), what);
      assert.ok(err.includes("profile.toml: "), what);
      assert.ok(err.includes(row[2]), what);
      assert.ok(err.includes("; "), `no remedy: ${what}`);
      assert.equal(readdirSync(join(oak.dir, `row-${index}`)), ["profile.toml"], what);
    }
  };
  await Promise.all([worker(), worker()]);
  assert.not(existsSync(oak.cachePath));
  assert.not(existsSync(oak.diskPath(0)));
});

test("no profile, a directory, an unknown word -> exit 2, one line", async ({ dir }) => {
  for (const words of [
    [],
    ["--profile"],
    ["--profile", join(dir, "absent.toml")],
    ["--profile", dir],
    ["--profil", "x"],
    ["--profile", "/dev/null"],
    ["--profile", "/dev/zero"],
  ]) {
    const { status, stderr } = spawnSync(process.execPath, [mainPath, ...words], { encoding: "utf8" });
    assert.is(status, 2, `${words}: ${stderr}`);
    assert.ok(isOneLine(stderr), `${words}: ${stderr}`);
  }
});

test.run();
