package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"time"
)

// The plot's dimensions in pixels: panels side by side, each with a frame for the curves.
const (
	panelWidth, panelHeight  = 400, 300
	left, right, top, bottom = 62, 14, 40, 46
	legendRow                = 18
	frameWidth, frameHeight  = panelWidth - left - right, panelHeight - top - bottom
)

// colors are the workloads' colors, in order. They are distinguishable without red-green vision.
var colors = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#444444"}

// curve holds the points of one workload.
type curve struct {
	workload string
	points   [][2]float64
}

// panel is a set of curves on two logarithmic axes.
type panel struct {
	title, x, y string
	curves      []curve
}

// plot draws how the cost grows.
func (r *results) plot() []byte {
	panels := []panel{
		{"one decision, by nodes", "nodes", "ms, median", byNodes(r.alone)},
		{fmt.Sprintf("one decision on %d nodes, by Pods there", podsNodes), "Pods", "ms, median", byPods(r.byPods)},
		{"through the API, by nodes", "nodes", "Pods a second", byRate(r.through)},
	}
	width, height := panelWidth*len(panels), panelHeight+2*legendRow+12
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d 0)">`+"\n", i*panelWidth)
		p.draw(&b)
		fmt.Fprint(&b, "</g>\n")
	}
	for i, name := range names() {
		x, y := left+(i%4)*220, panelHeight+legendRow*(1+i/4)
		fmt.Fprintf(&b, `<path d="M%d %dh24" stroke="%s" stroke-width="2"/><text x="%d" y="%d">%s</text>`+"\n", x, y-4, colors[i%len(colors)], x+30, y, name)
	}
	fmt.Fprint(&b, "</svg>\n")
	return b.Bytes()
}

func millis(d time.Duration) float64 { return d.Seconds() * 1000 }

func byNodes(all []decisions) []curve {
	return curves(all, func(d decisions) (string, float64, float64) {
		return d.workload, float64(d.nodes), millis(at(d.took, 50))
	})
}

func byPods(all []decisions) []curve {
	return curves(all, func(d decisions) (string, float64, float64) {
		return d.workload, float64(max(d.pods, 100)), millis(at(d.took, 50)) // an empty cluster is drawn at the edge
	})
}

func byRate(all []throughput) []curve {
	return curves(all, func(t throughput) (string, float64, float64) {
		return t.workload, float64(t.nodes), t.rate()
	})
}

// curves groups points by workload and sorts them.
func curves[T any](all []T, of func(T) (workload string, x, y float64)) []curve {
	var out []curve
	for _, item := range all {
		name, x, y := of(item)
		at := -1
		for i := range out {
			if out[i].workload == name {
				at = i
			}
		}
		if at < 0 {
			out, at = append(out, curve{workload: name}), len(out)
		}
		out[at].points = append(out[at].points, [2]float64{x, y})
	}
	return out
}

// axis is a logarithmic axis from one power of ten to another.
type axis struct{ low, high float64 }

func axisOf(curves []curve, i int) axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for _, p := range c.points {
			low, high = min(low, p[i]), max(high, p[i])
		}
	}
	if low > high || low <= 0 {
		return axis{0, 1}
	}
	a := axis{math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))}
	if a.high == a.low {
		a.high++
	}
	return a
}

// share returns the position of a value on the axis, from 0 to 1.
func (a axis) share(v float64) float64 { return (math.Log10(v) - a.low) / (a.high - a.low) }

func (p *panel) draw(b *bytes.Buffer) {
	fmt.Fprintf(b, `<text x="%d" y="22" font-size="13" font-weight="bold">%s</text>`+"\n", left, html.EscapeString(p.title))
	xs, ys := axisOf(p.curves, 0), axisOf(p.curves, 1)
	x := func(v float64) float64 { return left + xs.share(v)*frameWidth }
	y := func(v float64) float64 { return top + (1-ys.share(v))*frameHeight }
	for e := xs.low; e <= xs.high; e++ {
		at := x(math.Pow(10, e))
		fmt.Fprintf(b, `<path d="M%.1f %dv%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", at, top, frameHeight, at, top+frameHeight+16, number(e))
	}
	for e := ys.low; e <= ys.high; e++ {
		at := y(math.Pow(10, e))
		fmt.Fprintf(b, `<path d="M%d %.1fh%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, at, frameWidth, left-6, at+4, number(e))
	}
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#888"/>`+"\n", left, top, frameWidth, frameHeight)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", left+frameWidth/2, top+frameHeight+34, p.x)
	fmt.Fprintf(b, `<text transform="translate(14 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", top+frameHeight/2, p.y)
	for _, c := range p.curves {
		c.draw(b, x, y)
	}
}

func (c *curve) draw(b *bytes.Buffer, x, y func(float64) float64) {
	color := colors[0]
	for i, name := range names() {
		if name == c.workload {
			color = colors[i%len(colors)]
		}
	}
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, color)
	for _, p := range c.points {
		fmt.Fprintf(b, "%.1f,%.1f ", x(p[0]), y(p[1]))
	}
	fmt.Fprint(b, "\"/>\n")
	for _, p := range c.points {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", x(p[0]), y(p[1]), color)
	}
}

// number formats a power of ten.
func number(exponent float64) string {
	v := math.Pow(10, exponent)
	if v >= 1000 {
		return fmt.Sprintf("%gk", v/1000)
	}
	return fmt.Sprintf("%g", v)
}
