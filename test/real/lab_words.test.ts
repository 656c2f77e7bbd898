/** The lab's words: what it refuses before it starts anything. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { runningProcess } from "../../scripts/lab_site/process.ts";
import { profileText } from "../../scripts/lab_site/profile.ts";
import { builtInSite, createLab, defaultProfile, type Lab, loadLab } from "../../scripts/lab_site/site.ts";
import { siteOf } from "../../scripts/lab_site/site_file.ts";

const root = join(import.meta.dir, "../..");
const wishes = { profile: "single", mode: "async", persistence: "battery" } as const;

interface Context {
  dir: string;
}
const test = suite<Context>("lab_words");

test.before.each((context) => {
  context.dir = mkdtempSync(join(tmpdir(), "goldcopy-words-"));
});
test.after.each(({ dir }) => {
  rmSync(dir, { recursive: true, force: true });
});

async function lab(words: string, dir: string) {
  const child = Bun.spawn([join(root, "scripts", "lab"), ...words.split(" "), "--dir", join(dir, "lab")], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

test("words that mean nothing -> exit 2, one line, nothing made", async ({ dir }) => {
  const lines = [
    "jump",
    "kill",
    "cut oak",
    "up --mode fast",
    "up --persistence hope",
    "shape oak elm --rate fast",
    "fault oak-a fire on",
  ];
  for (const line of [
    ...lines,
    "stall oak-a",
    "stall oak-a long",
    "stall oak-a 11m",
    "fault oak-a disk maybe",
    "shape oak elm --loss 200%",
    "up extra",
  ]) {
    const { code, out, err } = await lab(line, dir);
    assert.is(code, 2, line);
    assert.is(out, "", line);
    assert.match(err, /^lab: [^\n]+\n$/, line);
  }
  assert.not(existsSync(join(dir, "lab")));
});

test("a lab from before iSCSI -> shown without portals, and how to get them", async ({ dir }) => {
  const { site } = await createLab(join(dir, "lab"), builtInSite(wishes));
  const old = { ...site, appliances: site.appliances.map(({ iscsiPorts: _, ...appliance }) => appliance) };
  writeFileSync(join(dir, "lab", "lab.json"), JSON.stringify(old));
  const told = await lab("status", dir);
  assert.is(told.code, 0, told.err);
  assert.match(told.out, "no iSCSI: the lab is from before it; scripts/lab down --wipe");
  const [oak] = JSON.parse((await lab("status --json", dir)).out).appliances;
  assert.equal([oak.iscsi, oak.iscsiPortals, oak.iqn, oak.nbdPortals.length], [null, [], null, 2]);
});

test("what this version does not have -> exit 1, not-in-this-version", async ({ dir }) => {
  const { code, out } = await lab("up --mode delta --json", dir);
  assert.is(code, 1);
  assert.is(JSON.parse(out).error.code, "not-in-this-version");
});

test("no lab -> exit 1, and down is content", async ({ dir }) => {
  for (const line of ["status", "kill oak-a", "start oak-a", "cut oak elm", "logs oak-a"]) {
    const { code, err } = await lab(line, dir);
    assert.is(code, 1, line);
    assert.match(err, "there is no lab", line);
  }
  assert.is((await lab("down --wipe", dir)).code, 0);
});

test("bad site file -> exit 2, one line that names file and field", async ({ dir }) => {
  const rows: [string, string][] = [
    ["cache = 12XB", "site.toml"],
    ['cache = "12XB"', "cache"],
    ["speed = 3", "speed"],
    ['heartbeat = "fast"', "heartbeat"],
    ['heartbeat = "5x50"', "10 to 10000"],
    ['heartbeat = "50x2"', "3 to 100"],
    ['volumes = [{ name = "a b", size = "1GiB" }]', "volumes"],
    ['arrays = [{ name = "oak", appliances = ["oak-a", "oak-b", "oak-c"] }]', "or the two of a pair"],
    ['arrays = [{ name = "oak", appliances = [] }]', "or the two of a pair"],
    ['arrays = [{ name = "oak", appliances = ["oak-a", "oak-a"] }]', "a name of its own"],
    ['arrays = [{ name = "oak", appliances = ["oak"] }]', "a name of its own"],
  ];
  const path = join(dir, "site.toml");
  for (const [text, field] of rows) {
    writeFileSync(path, text);
    const { code, err } = await lab(`up --profile ${path}`, dir);
    assert.is(code, 2, text);
    assert.match(err, field);
    assert.match(err, /^lab: [^\n]+\n$/, text);
  }
  assert.is((await lab(`up --profile ${path}.missing`, dir)).code, 2);
});

test("site file -> what it says, the rest as in the built-in one", ({ dir }) => {
  const path = join(dir, "site.toml");
  writeFileSync(path, 'cache = "64MiB"\nvolumes = [{ name = "v", size = "2GiB" }]\n');
  const site = siteOf({ ...wishes, profile: path });
  assert.is(site.cacheBytes, 64 * 1024 ** 2);
  assert.equal(site.volumes, [{ name: "v", sizeBytes: 2 * 1024 ** 3 }]);
  assert.is(site.disksPerShelf, builtInSite(wishes).disksPerShelf);
  assert.equal(site.arrays, builtInSite({ ...wishes, profile: defaultProfile }).arrays);
  const arrays = [
    { name: "ash", appliances: ["ash-a"] },
    { name: "fir", appliances: ["fir-b", "fir-a"] },
  ];
  const lines = arrays.map(
    ({ name, appliances }) => `{ name = "${name}", appliances = ${JSON.stringify(appliances)} }`,
  );
  writeFileSync(path, `arrays = [${lines.join(", ")}]`);
  assert.equal(siteOf({ ...wishes, profile: path }).arrays, arrays);
});

test("new lab -> ports that differ, below the range of outgoing connections; kept when loaded", async ({ dir }) => {
  const made = await createLab(join(dir, "lab"), builtInSite(wishes));
  const ports = made.site.appliances.flatMap(({ nbdPorts, nicPorts }) => [...nbdPorts, ...nicPorts]);
  assert.is(ports.length, 8);
  assert.is(new Set(ports).size, 8);
  assert.ok(ports.every((port) => port < 32768));
  assert.equal(loadLab(join(dir, "lab"))?.site, made.site);
  const profile = profileText(made, made.site.appliances[0]!);
  for (const port of made.site.appliances[0]!.nbdPorts) assert.match(profile, `127.0.0.1:${port}`);
  for (const port of made.site.appliances[1]!.nicPorts) assert.match(profile, `127.0.0.1:${port}`);
});

test("directory too long for sockets -> refused before anything is made", async ({ dir }) => {
  const long = join(dir, "x".repeat(100));
  const outcome = await createLab(long, builtInSite(wishes)).then(
    () => "made",
    (error: Error) => error.message,
  );
  assert.match(outcome, "too long");
  assert.not(existsSync(long));
});

test("noted process whose id was reused -> not running", async ({ dir }) => {
  const made: Lab = await createLab(join(dir, "lab"), builtInSite(wishes));
  const path = join(made.dir, "oak-a", "process.json");
  mkdirSync(join(made.dir, "oak-a"), { recursive: true });
  const stat = readFileSync(`/proc/${process.pid}/stat`, "utf8");
  const startTicks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  writeFileSync(path, JSON.stringify({ pid: process.pid, startTicks }));
  assert.is(runningProcess(made, "oak-a")?.pid, process.pid);
  writeFileSync(path, JSON.stringify({ pid: process.pid, startTicks: startTicks - 1 }));
  assert.is(runningProcess(made, "oak-a"), null);
  writeFileSync(path, "{");
  assert.is(runningProcess(made, "oak-a"), null);
});

test.run();
