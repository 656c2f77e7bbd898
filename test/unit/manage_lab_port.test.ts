import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLabPort } from "../../firmware/manage/lab_port.ts";
import type { Nic, Shaping } from "../../hal/api/nic.ts";

const test = suite("manage_lab_port");

function fakeNic(name: string): Nic {
  const table = new Map<string, Shaping>();
  return {
    name,
    address: "127.0.0.1:1",
    listen: () => {},
    connect: () => {},
    shape: (remote, shaping) => {
      if (shaping === null) table.delete(remote);
      else table.set(remote, shaping);
    },
    shapings: () => table,
    close: () => {},
  };
}

const plain = { cut: false, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 };

function setUp() {
  const told: string[] = [];
  const lab = createLabPort({
    nics: [fakeNic("nic0"), fakeNic("nic1")],
    shelves: [{ name: "shelf0", disks: [null, { place: "shelf0/1" }] }],
    faults: {
      setBattery: (state) => told.push(`battery ${state}`),
      setDiskFault: (place, on) => place === "shelf0/1" && told.push(`disk ${place} ${on}`) > 0,
      setShelfFault: (shelf, on) => shelf === "shelf0" && told.push(`shelf ${shelf} ${on}`) > 0,
      stallLoop: (forMs) => told.push(`stall ${forMs}`),
    },
    events: { emit: () => {} },
  });
  return { lab, told };
}

test("cut of every NIC, one joined again -> the other stays cut", () => {
  const { lab } = setUp();
  assert.ok(lab.shape({ nic: null, remote: "elm-a", ...plain, cut: true }).ok);
  assert.is(lab.links().length, 2);
  assert.ok(lab.shape({ nic: "nic0", remote: "elm-a", ...plain }).ok);
  assert.equal(lab.links(), [{ nic: "nic1", remote: "elm-a", ...plain, cut: true }]);
  assert.not(lab.shape({ nic: "nic9", remote: "elm-a", ...plain }).ok);
});

test("faults -> the HAL is told; an unknown place is refused", () => {
  const { lab, told } = setUp();
  assert.ok(lab.fault({ kind: "battery", place: null, on: true }).ok);
  assert.ok(lab.fault({ kind: "battery", place: null, on: false }).ok);
  assert.ok(lab.fault({ kind: "disk", place: null, on: true }).ok);
  assert.ok(lab.fault({ kind: "shelf", place: null, on: true }).ok);
  assert.not(lab.fault({ kind: "disk", place: "shelf0/7", on: true }).ok);
  assert.equal(told, ["battery failed", "battery good", "disk shelf0/1 true", "shelf shelf0 true"]);
});

test("a stall -> the HAL is told for how long", () => {
  const { lab, told } = setUp();
  assert.equal(lab.stall({ forMs: 400 }), { ok: true, value: { forMs: 400 } });
  assert.equal(told, ["stall 400"]);
});

test.run();
