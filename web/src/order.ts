// The order of triangles, so that each vertex is transformed about once: a renderer in software remembers few of them.

/**
 * Reorder triangles for a cache of vertices.
 *
 * Source: P. Sander, D. Nehab, J. Barczak, "Fast Triangle Reordering for Vertex Locality and Reduced Overdraw", 2007 (Tipsify).
 */
export function reordered(index: ArrayLike<number>, vertices: number, cache = 16): Uint32Array {
  const triangles = index.length / 3;
  const starts = new Uint32Array(vertices + 1);
  for (let i = 0; i < index.length; i++) starts[index[i]! + 1]!++;
  for (let v = 0; v < vertices; v++) starts[v + 1]! += starts[v]!;
  const live = new Int32Array(vertices), around = new Uint32Array(index.length), filled = starts.slice();
  for (let i = 0; i < index.length; i++) {
    around[filled[index[i]!]!++] = Math.floor(i / 3);
    live[index[i]!]!++;
  }
  const seen = new Int32Array(vertices), done = new Uint8Array(triangles), out = new Uint32Array(index.length);
  const dead: number[] = [];
  let time = cache + 1, at = 0, cursor = 0, fan = 0;
  while (fan >= 0) {
    const near: number[] = [];
    for (let k = starts[fan]!; k < starts[fan + 1]!; k++) {
      const triangle = around[k]!;
      if (done[triangle]) continue;
      done[triangle] = 1;
      for (let c = 0; c < 3; c++) {
        const v = index[3 * triangle + c]!;
        out[at++] = v;
        dead.push(v);
        near.push(v);
        live[v]!--;
        if (time - seen[v]! > cache) seen[v] = time++;
      }
    }
    fan = -1;
    let best = -1;
    for (const v of near) {
      if (!live[v]) continue;
      const age = time - seen[v]!;
      const priority = age + 2 * live[v]! <= cache ? age : 0;
      if (priority > best) [best, fan] = [priority, v];
    }
    while (fan < 0 && dead.length) {
      const v = dead.pop()!;
      if (live[v]) fan = v;
    }
    while (fan < 0 && cursor < vertices) {
      if (live[cursor]) fan = cursor;
      cursor++;
    }
  }
  return out;
}
