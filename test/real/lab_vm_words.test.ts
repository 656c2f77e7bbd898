/** The lab of virtual machines before any of them runs: sites, profiles, command lines, and what is refused. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { machineArguments, plainMachine } from "../../scripts/image_build/machine.ts";
import {
  applianceOf,
  atOf,
  builtInSite,
  createLab,
  diskPath,
  type Lab,
  loadLab,
  pathIn,
} from "../../scripts/lab_site/site.ts";
import { machineWords, socketWords } from "../../scripts/lab_site/vm_files.ts";
import { run } from "./support/clients.ts";
import { profileOf } from "./support/lab_profile.ts";

const root = join(import.meta.dir, "../..");

interface Context {
  dir: string;
  lab: Lab;
}
const test = suite<Context>("lab_vm_words");

test.before.each(async (context) => {
  context.dir = mkdtempSync(join(tmpdir(), "goldcopy-vmwords-"));
  const site = builtInSite({ profile: "pair", mode: "async", persistence: "flush", machines: "vm" });
  context.lab = await createLab(join(context.dir, "lab"), site);
});
test.after.each(({ dir }) => {
  rmSync(dir, { recursive: true, force: true });
});

const refusal = (words: () => unknown): string => {
  try {
    words();
    return "accepted";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};

test("the site -> every port its own, with a management port and a monitor for each machine; kept when loaded", ({
  lab,
}) => {
  const ports = lab.site.appliances.flatMap((appliance) => [
    ...[...appliance.nbdPorts, ...appliance.nicPorts, ...appliance.iscsiPorts, ...appliance.interconnectPorts],
    ...[appliance.managementPort ?? 0, appliance.monitorPort ?? 0],
  ]);
  assert.is(ports.length, 28);
  assert.is(new Set(ports).size, 28);
  assert.equal(loadLab(lab.dir)?.site, lab.site);
});

test("the partners' profiles -> each reaches the other through the host, and has the other's monitor as its power port", ({
  lab,
}) => {
  const portOf = (text: string) => text.split(":")[1];
  for (const [name, other] of [
    ["oak-a", "oak-b"],
    ["oak-b", "oak-a"],
  ] as const) {
    const { board, config, managementPort } = profileOf(lab, name);
    const partner = applianceOf(lab, other);
    assert.equal(board.power, {
      kind: "machine",
      target: other,
      monitor: `10.0.2.2:${partner.monitorPort}`,
      restart: true,
    });
    assert.equal(
      config.pair?.addresses,
      partner.interconnectPorts.map((port) => `10.0.2.2:${port}`),
    );
    assert.equal(
      profileOf(lab, other)
        .board.nics.filter((nic) => nic.name.startsWith("ic"))
        .map(({ listen }) => portOf(listen)),
      config.pair?.addresses.map(portOf),
    );
    assert.equal([config.pair?.limitMs, config.pair?.hungMs], [5000, 20_000]);
    assert.equal(
      board.shelves[0]?.disks.map(({ path, create }) => [path, create]),
      [
        ["/dev/shelf/SHELF-0-0", false],
        ["/dev/shelf/SHELF-0-1", false],
      ],
    );
    // What the command line says is what the machine asks for.
    assert.is(
      atOf(lab, name),
      `http://lab:${managementPort?.secret}@127.0.0.1:${portOf(managementPort?.listen ?? "")}`,
    );
  }
  assert.is(profileOf(lab, "elm-a").board.power, undefined);
});

test("a shared disk -> past the host's page cache, and open to both; other disks are as they were", () => {
  const words = machineArguments({
    ...plainMachine,
    image: "system.qcow2",
    disks: [
      { file: "shared.disk", serial: "S0", shared: true },
      { file: "own.disk", serial: "S1" },
    ],
  });
  const drive = (file: string) => words.find((word) => word.includes(`file=${file}`)) ?? "";
  assert.match(drive("shared.disk"), /,cache=none$/);
  assert.not.match(drive("own.disk"), "cache");
  assert.ok(words.includes("virtio-blk-pci,drive=disk0,serial=S0,share-rw=on"));
  assert.ok(words.includes("virtio-blk-pci,drive=disk1,serial=S1"));
});

test("the monitor for the partner -> on loopback alone", ({ lab }) => {
  const { monitorPort } = applianceOf(lab, "oak-a");
  assert.ok(socketWords(lab, applianceOf(lab, "oak-a")).includes(`tcp:127.0.0.1:${monitorPort},server=on,wait=off`));
});

test("the interconnect -> forwarded for its messages and for its heartbeats", ({ lab }) => {
  const oak = applianceOf(lab, "oak-a");
  // It has run before: no image is needed.
  const system = pathIn(lab, "oak-a", "system.qcow2");
  mkdirSync(dirname(system), { recursive: true });
  writeFileSync(system, "");
  const network = machineWords(lab, oak).find((word) => word.startsWith("user,")) ?? "";
  for (const port of oak.interconnectPorts)
    for (const protocol of ["tcp", "udp"]) assert.match(network, `,hostfwd=${protocol}:127.0.0.1:${port}-:${port}`);
  assert.not.match(network, `udp:127.0.0.1:${oak.nbdPorts[0]}-`);
});

test("a port is taken, a disk of the shelf is missing -> refused in one line before anything is made", async ({
  lab,
}) => {
  const oak = applianceOf(lab, "oak-a");
  const taken = Bun.listen({ hostname: "127.0.0.1", port: oak.iscsiPorts[1]!, socket: { data() {} } });
  assert.match(
    refusal(() => machineWords(lab, oak)),
    `port ${oak.iscsiPorts[1]} of oak-a is taken: end what listens there`,
  );
  taken.stop(true);
  const beats = await Bun.udpSocket({ hostname: "127.0.0.1", port: oak.interconnectPorts[0]! });
  assert.match(
    refusal(() => machineWords(lab, oak)),
    `UDP port ${oak.interconnectPorts[0]} of oak-a is taken`,
  );
  beats.close();
  const disk = diskPath(lab, "oak", 1);
  rmSync(disk);
  assert.match(
    refusal(() => machineWords(lab, oak)),
    `${disk} is not there, a disk of oak's shelf: oak-a is not started without it`,
  );
});

test("wishes that do not go together -> said in one line, nothing is made", async ({ dir }) => {
  const rows: [string[], number, RegExp][] = [
    [["--vm", "--netns"], 2, /^lab: --vm and --netns exclude each other/],
    [
      ["--vm", "--persistence", "battery"],
      2,
      /^lab: --persistence battery: a virtual machine's memory does not survive/,
    ],
  ];
  const elsewhere = join(dir, "other");
  for (const [words, code, text] of rows) {
    const ran = await run(join(root, "scripts", "lab"), ["up", ...words, "--dir", elsewhere]);
    assert.is(ran.code, code);
    assert.match(ran.stderr, text);
    assert.is(ran.stderr.trim().split("\n").length, 1);
    assert.is(loadLab(elsewhere), null);
  }
  const processes = join(dir, "processes");
  await createLab(processes, builtInSite({ profile: "single", mode: "async", persistence: "flush" }));
  const { code, stderr } = await run(join(root, "scripts", "lab"), ["up", "--vm", "--dir", processes]);
  assert.is(code, 1);
  assert.match(stderr, /has machines process, not vm: scripts\/lab down --wipe starts over/);
});

test.run();
