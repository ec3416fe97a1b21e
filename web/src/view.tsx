// `omote view`: the studio's viewer alone.
import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { MeshoptDecoder } from 'three/addons/libs/meshopt_decoder.module.js';
import { Header, LanguageContext, Recordings, Sliders, Stage, ToolBar, TOOLS, useLook } from './shared';
import { UNITS } from './units';
import type { Viewer, Weights } from './viewer';

// A static site names a file beside the page (view.html?file=avatar.glb); `omote view` serves one under these names.
const named = /^[\w.-]+\.(glb|vrm)$/.exec(new URLSearchParams(location.search).get('file') ?? '')?.[0];

function View() {
  const look = useLook();
  const [tools, setTools] = useState(TOOLS);
  const [names, setNames] = useState<string[]>([]);
  const [weights, setWeights] = useState<Weights>({});
  const [turn, setTurn] = useState<[number, number, number] | undefined>();
  const [name, setName] = useState(named ?? '');
  const viewer = useRef<Viewer | null>(null);
  useEffect(() => {
    if (!named) void fetch('name.json').then((r) => r.json()).then((found: { name: string }) => setName(found.name));
  }, []);
  useEffect(() => {
    if (name) document.title = `${name} – omote`;
  }, [name]);
  return (
    <LanguageContext.Provider value={look.language}>
      <Header title={name || 'omote'} look={look} />
      <main class="avatar">
        <div class="stages"><Stage url={named ?? 'avatar.glb'} label={name} tools={tools} weights={weights} turn={turn} decoder={MeshoptDecoder} onLoaded={(l) => setNames(l.names)} onViewer={(v) => (viewer.current = v)} /></div>
        <aside>
          <ToolBar tools={tools} onChange={setTools} onFront={() => viewer.current?.frame()} mask={false} />
          <Sliders names={names} units={UNITS} weights={weights} onChange={setWeights} />
          <Recordings units={UNITS} onFrame={(w, at) => { setWeights(w); setTurn(at); }} />
        </aside>
      </main>
    </LanguageContext.Provider>
  );
}

render(<View />, document.getElementById('page')!);
