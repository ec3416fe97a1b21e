// Morph targets on the processor: few vertices move at a time, and a renderer in software pays for every target otherwise.
import { BufferAttribute, type BufferGeometry, type InterleavedBufferAttribute, type Mesh } from 'three';

interface Target { ids: Uint32Array; positions: Float32Array; normals: Float32Array }

/** The morph targets of one mesh, taken out of it. */
export class Morphs {
  readonly names: string[];
  private readonly base: Float32Array;
  private readonly baseNormals: Float32Array;
  private readonly targets: Target[];
  private readonly geometry: BufferGeometry;
  private shown = '';

  constructor(mesh: Mesh) {
    const geometry = (this.geometry = mesh.geometry);
    const dictionary = mesh.morphTargetDictionary ?? {};
    this.names = Object.keys(dictionary).sort((a, b) => dictionary[a]! - dictionary[b]!);
    this.base = plain(geometry.getAttribute('position'));
    this.baseNormals = plain(geometry.getAttribute('normal'));
    const moves = geometry.morphAttributes.position ?? [];
    const turns = geometry.morphAttributes.normal ?? [];
    this.targets = moves.map((move, i) => sparse(plain(move), turns[i] ? plain(turns[i]) : new Float32Array(this.base.length)));
    geometry.morphAttributes = {};
    mesh.morphTargetInfluences = undefined;
    mesh.morphTargetDictionary = undefined;
    geometry.setAttribute('position', new BufferAttribute(this.base.slice(), 3));
    geometry.setAttribute('normal', new BufferAttribute(this.baseNormals.slice(), 3));
  }

  /** Show weights by name. */
  show(weights: Readonly<Record<string, number>>): void {
    const active = this.names.map((name, i) => [i, weights[name] ?? 0] as const).filter(([, w]) => w !== 0);
    const key = active.join(';');
    if (key === this.shown) return;
    this.shown = key;
    const position = this.geometry.getAttribute('position') as BufferAttribute;
    const normal = this.geometry.getAttribute('normal') as BufferAttribute;
    const p = position.array as Float32Array, n = normal.array as Float32Array;
    p.set(this.base);
    n.set(this.baseNormals);
    for (const [i, w] of active) {
      const { ids, positions, normals } = this.targets[i]!;
      for (let k = 0; k < ids.length; k++) {
        const at = 3 * ids[k]!, from = 3 * k;
        p[at] = p[at]! + w * positions[from]!;
        p[at + 1] = p[at + 1]! + w * positions[from + 1]!;
        p[at + 2] = p[at + 2]! + w * positions[from + 2]!;
        n[at] = n[at]! + w * normals[from]!;
        n[at + 1] = n[at + 1]! + w * normals[from + 1]!;
        n[at + 2] = n[at + 2]! + w * normals[from + 2]!;
      }
    }
    position.needsUpdate = normal.needsUpdate = true;
  }

  /** Number of vertices that weights move by more than 1 µm, for tests. */
  moved(): number {
    const p = (this.geometry.getAttribute('position') as BufferAttribute).array;
    let count = 0;
    for (let i = 0; i < p.length; i += 3) {
      const far = Math.max(...[0, 1, 2].map((k) => Math.abs(p[i + k]! - this.base[i + k]!)));
      if (far > 1e-6) count++;
    }
    return count;
  }
}

function plain(attribute: BufferAttribute | InterleavedBufferAttribute): Float32Array {
  const out = new Float32Array(3 * attribute.count);
  for (let i = 0; i < attribute.count; i++) {
    out[3 * i] = attribute.getX(i);
    out[3 * i + 1] = attribute.getY(i);
    out[3 * i + 2] = attribute.getZ(i);
  }
  return out;
}

function sparse(positions: Float32Array, normals: Float32Array): Target {
  const ids: number[] = [];
  for (let i = 0; i < positions.length; i += 3) {
    let any = 0;
    for (let k = 0; k < 3; k++) any += Math.abs(positions[i + k]!) + Math.abs(normals[i + k]!);
    if (any > 0) ids.push(i / 3);
  }
  const take = (values: Float32Array) => {
    const out = new Float32Array(3 * ids.length);
    ids.forEach((id, k) => out.set(values.subarray(3 * id, 3 * id + 3), 3 * k));
    return out;
  };
  return { ids: Uint32Array.from(ids), positions: take(positions), normals: take(normals) };
}
