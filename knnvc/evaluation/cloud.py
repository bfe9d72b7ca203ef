"""A cloud of points to turn in a browser: one HTML file of some hundred kilobytes, no network.

The page draws on a canvas by itself; points are stored as whole numbers, a thousandth of the
cloud's half width each.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knnvc.evaluation.figures import PALETTE
from knnvc.files import atomic_path

Floats = npt.NDArray[np.float32]
STEPS = 1000  # of the half width

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title><style>
body{margin:0;font:15px/1.5 system-ui,sans-serif;color:#222}
main{max-width:60rem;margin:1rem auto;padding:0 1rem}
h1{font-size:1.2rem}
canvas{width:100%;height:62vh;border:1px solid #ddd;touch-action:none;cursor:grab}
i{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin:0 .4em 0 1em}
</style></head><body><main><h1>@TITLE@</h1>
<p id="legend"></p><canvas aria-label="@TITLE@"></canvas>
<p>Drag to turn, scroll to zoom. Axes: @AXES@.</p><p>@CAPTION@</p></main>
<script type="application/json" id="scatter3d">@DATA@</script>
<script>
"use strict";
const data=JSON.parse(document.getElementById("scatter3d").textContent);
const canvas=document.querySelector("canvas"),pen=canvas.getContext("2d");
let yaw=-0.6,pitch=0.35,zoom=1,held=null;
const hidden=new Set();
data.clouds.forEach((cloud,n)=>{
  const label=document.createElement("label"),box=document.createElement("input"),
    dot=document.createElement("i");
  box.type="checkbox";box.checked=true;dot.style.background=cloud.colour;
  box.onchange=()=>{box.checked?hidden.delete(n):hidden.add(n);draw()};
  label.append(dot,box," "+cloud.name+" ("+cloud.points.length/3+" frames)");
  document.getElementById("legend").append(label);
});
function place(x,y,z){
  const a=Math.cos(yaw)*x-Math.sin(yaw)*y,b=Math.sin(yaw)*x+Math.cos(yaw)*y;
  return [a,Math.cos(pitch)*z-Math.sin(pitch)*b,Math.sin(pitch)*z+Math.cos(pitch)*b];
}
function draw(){
  const ratio=window.devicePixelRatio||1,box=canvas.getBoundingClientRect();
  canvas.width=box.width*ratio;canvas.height=box.height*ratio;
  const scale=zoom*Math.min(canvas.width,canvas.height)/(2.3*data.steps);
  const at=(p)=>[canvas.width/2+scale*p[0],canvas.height/2-scale*p[1]];
  pen.clearRect(0,0,canvas.width,canvas.height);
  pen.strokeStyle="#bbb";pen.lineWidth=ratio;pen.fillStyle="#555";pen.font=12*ratio+"px sans-serif";
  for(const [n,end] of [[1,0,0],[0,1,0],[0,0,1]].entries()){
    const to=at(place(...end.map(v=>v*data.steps*1.1))),from=at([0,0,0]);
    pen.beginPath();pen.moveTo(...from);pen.lineTo(...to);pen.stroke();
    pen.fillText(data.axes[n],...to);
  }
  const read=(cloud,i)=>place(cloud.points[3*i],cloud.points[3*i+1],cloud.points[3*i+2]);
  if(data.links.length&&!hidden.size){
    pen.globalAlpha=0.45;pen.strokeStyle="#666";pen.beginPath();
    for(const [i,j] of data.links){
      pen.moveTo(...at(read(data.clouds[0],i)));pen.lineTo(...at(read(data.clouds[1],j)));
    }
    pen.stroke();
  }
  const dots=[];
  data.clouds.forEach((cloud,n)=>{
    if(hidden.has(n))return;
    for(let i=0;i<cloud.points.length/3;i++){
      const p=read(cloud,i);dots.push([p[2],at(p),cloud.colour]);
    }
  });
  dots.sort((a,b)=>b[0]-a[0]);
  pen.globalAlpha=0.65;
  for(const [depth,[x,y],colour] of dots){
    pen.fillStyle=colour;pen.beginPath();
    pen.arc(x,y,ratio*(1.9-0.6*depth/data.steps),0,7);pen.fill();
  }
  pen.globalAlpha=1;
}
canvas.onpointerdown=(e)=>{held=[e.clientX,e.clientY];canvas.setPointerCapture(e.pointerId)};
canvas.onpointerup=()=>{held=null};
canvas.onpointermove=(e)=>{
  if(!held)return;
  yaw+=(e.clientX-held[0])/150;pitch=Math.max(-1.6,Math.min(1.6,pitch+(e.clientY-held[1])/150));
  held=[e.clientX,e.clientY];draw();
};
canvas.onwheel=(e)=>{e.preventDefault();zoom*=Math.exp(-e.deltaY/700);draw()};
window.onresize=draw;draw();
</script></body></html>
"""


def write_cloud(
    points: Mapping[str, Floats],
    axes: Sequence[str],
    title: str,
    caption: str,
    links: Sequence[tuple[int, int]],
    path: Path,
    *,
    force: bool,
) -> Path:
    """Write the page.

    Args:
        points: [N, 3] by name.
        axes: titles of the three axes.
        title: of the page.
        caption: what to look for.
        links: rows of the first and of the second cloud that are joined.
        path: of the page.
        force: overwrite it.

    Raises:
        UsageError: it exists and `force` is False.
    """
    everything = np.concatenate(list(points.values()))
    middle = everything.mean(0)
    reach = max(float(np.abs(everything - middle).max()), 1e-9)
    clouds = [
        {
            "name": name,
            "colour": PALETTE[number % len(PALETTE)],
            "points": np.round((own - middle) / reach * STEPS).astype(int).ravel().tolist(),
        }
        for number, (name, own) in enumerate(points.items())
    ]
    data = {"steps": STEPS, "axes": list(axes), "clouds": clouds, "links": [*map(list, links)]}
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    page = _PAGE.replace("@TITLE@", html.escape(title)).replace("@CAPTION@", html.escape(caption))
    page = page.replace("@AXES@", html.escape(", ".join(axes))).replace("@DATA@", written)
    with atomic_path(path, force=force) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
