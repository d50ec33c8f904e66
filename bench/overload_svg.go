package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
)

// A chart is a grid of panels with one legend. It is drawn as SVG by hand: what
// it takes of a plotting library is axes, lines and bars.
type chart struct {
	title string
	note  string
	rows  [][]panel
}

// A panel has categories along x. Lines go from one to the next; bars stand side
// by side in each.
type panel struct {
	title  string
	x, y   string   // what the axes are
	ticks  []string // the categories
	every  int      // label each of them, or every n-th; 0 is each
	log    bool
	bars   bool
	series []series
	wanted float64 // a dashed line: what was promised; 0 is none
}

type series struct {
	name   string
	values []float64 // one for each category; NaN is none
}

// The colours can be told apart by those who do not see all of them (Okabe and
// Ito). The same name has the same colour in every chart.
var colours = map[string]string{
	"portner": "#d55e00", "auto": "#d55e00", direct: "#6b7280", "nginx": "#009e73", "haproxy": "#56b4e9", "haproxy-tuned": "#0072b2", "caddy": "#cc79a7",
}

var moreColours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#6b7280"}

const (
	panelWidth, panelHeight                        = 330.0, 190.0 // of the axes
	marginLeft, marginRight, marginTop, marginFoot = 62.0, 18.0, 30.0, 48.0
	headHeight                                     = 84.0
)

func (c chart) svg() []byte {
	columns := 1
	for _, row := range c.rows {
		columns = max(columns, len(row))
	}
	width := float64(columns)*(panelWidth+marginLeft+marginRight) + 16
	width = max(width, 900)
	height := headHeight + float64(len(c.rows))*(panelHeight+marginTop+marginFoot) + 8

	b := new(bytes.Buffer)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12" fill="#1f2937">`+"\n", width, height, width, height)
	fmt.Fprintf(b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	label(b, 16, 26, "start", `font-size="17" font-weight="600"`, c.title)
	label(b, 16, 46, "start", `fill="#4b5563"`, c.note)
	names := c.names()
	x := 16.0
	for _, name := range names {
		fmt.Fprintf(b, `<rect x="%.1f" y="60" width="14" height="10" fill="%s"/>`+"\n", x, colourOf(name, names))
		label(b, x+19, 69, "start", "", name)
		x += 34 + 7.2*float64(len(name))
	}
	for i, row := range c.rows {
		for j, p := range row {
			fmt.Fprintf(b, `<g transform="translate(%.1f %.1f)">`+"\n",
				float64(j)*(panelWidth+marginLeft+marginRight)+marginLeft+8, headHeight+float64(i)*(panelHeight+marginTop+marginFoot)+marginTop)
			p.draw(b, names)
			b.WriteString("</g>\n")
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// names are all series, in order of appearance.
func (c chart) names() []string {
	var list []string
	for _, row := range c.rows {
		for _, p := range row {
			for _, s := range p.series {
				if !slices.Contains(list, s.name) {
					list = append(list, s.name)
				}
			}
		}
	}
	return list
}

func colourOf(name string, names []string) string {
	if colour, ok := colours[name]; ok {
		return colour
	}
	return moreColours[max(slices.Index(names, name), 0)%len(moreColours)]
}

func label(b *bytes.Buffer, x, y float64, anchor, style, text string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, style, html.EscapeString(text))
}

func (p panel) draw(b *bytes.Buffer, names []string) {
	s := p.scale()
	label(b, 0, -10, "start", `font-weight="600"`, p.title)
	for _, tick := range s.ticks {
		y := s.y(tick)
		fmt.Fprintf(b, `<line x1="0" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#e5e7eb"/>`+"\n", panelWidth, y, y)
		label(b, -6, y+4, "end", `font-size="11" fill="#4b5563"`, strconv.FormatFloat(tick, 'f', -1, 64))
	}
	if p.wanted > 0 && p.wanted <= s.high {
		fmt.Fprintf(b, `<line x1="0" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#111827" stroke-dasharray="5 4"/>`+"\n", panelWidth, s.y(p.wanted), s.y(p.wanted))
	}
	step := panelWidth / float64(max(len(p.ticks), 1))
	for i, tick := range p.ticks {
		if i%max(p.every, 1) == 0 {
			label(b, (float64(i)+0.5)*step, panelHeight+16, "middle", `font-size="11" fill="#4b5563"`, tick)
		}
	}
	fmt.Fprintf(b, `<path d="M0 0V%.1fH%.1f" fill="none" stroke="#374151"/>`+"\n", panelHeight, panelWidth)
	label(b, panelWidth/2, panelHeight+36, "middle", `fill="#374151"`, p.x)
	fmt.Fprintf(b, `<text transform="translate(-46 %.1f) rotate(-90)" text-anchor="middle" fill="#374151">%s</text>`+"\n", panelHeight/2, html.EscapeString(p.y))
	for n, one := range p.series {
		colour := colourOf(one.name, names)
		if p.bars {
			p.drawBars(b, s, n, step, colour)
		} else {
			p.drawLine(b, s, one, step, colour)
		}
	}
}

func (p panel) drawBars(b *bytes.Buffer, s scale, n int, step float64, colour string) {
	width := step * 0.84 / float64(len(p.series))
	for i, v := range p.series[n].values {
		x := float64(i)*step + step*0.08 + float64(n)*width
		if math.IsNaN(v) {
			label(b, x+width/2, panelHeight-3, "middle", fmt.Sprintf(`font-size="10" fill="%s"`, colour), "–")
			continue
		}
		y := s.y(v)
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s, %s: %.1f</title></rect>`+"\n",
			x, y, width*0.9, max(panelHeight-y, 1), colour, html.EscapeString(p.series[n].name), html.EscapeString(p.ticks[i]), v)
	}
}

func (p panel) drawLine(b *bytes.Buffer, s scale, one series, step float64, colour string) {
	thick := 1.6
	if colour == colours["portner"] {
		thick = 3
	}
	path, pen := "", "M"
	for i, v := range one.values {
		if math.IsNaN(v) {
			pen = "M" // what is void is a gap
			continue
		}
		x, y := (float64(i)+0.5)*step, s.y(v)
		path += fmt.Sprintf("%s%.1f %.1f", pen, x, y)
		pen = "L"
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"><title>%s, %s: %.1f</title></circle>`+"\n",
			x, y, thick+1, colour, html.EscapeString(one.name), html.EscapeString(p.ticks[i]), v)
	}
	if path != "" {
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="%.1f" stroke-linejoin="round"/>`+"\n", path, colour, thick)
	}
}

// A scale is the y axis of a panel.
type scale struct {
	low, high float64
	log       bool
	ticks     []float64
}

func (p panel) scale() scale {
	low, high := math.Inf(1), p.wanted
	for _, one := range p.series {
		for _, v := range one.values {
			if !math.IsNaN(v) && (v > 0 || !p.log) {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if math.IsInf(low, 1) {
		low = 1
	}
	if p.log {
		s := scale{low: math.Pow(10, math.Floor(math.Log10(low))), high: math.Pow(10, math.Ceil(math.Log10(max(high, low)))), log: true}
		if s.high <= s.low {
			s.high = 10 * s.low
		}
		for power := s.low; power <= s.high*1.001; power *= 10 {
			s.ticks = append(s.ticks, power)
			if s.high <= 101*s.low && power < s.high {
				s.ticks = append(s.ticks, 2*power, 5*power)
			}
		}
		return s
	}
	step := niceStep(max(high, 1) / 4)
	s := scale{high: math.Ceil(max(high, 1)/step) * step}
	for tick := 0.0; tick <= s.high*1.001; tick += step {
		s.ticks = append(s.ticks, tick)
	}
	return s
}

// niceStep is the next of 1, 2, 5, 10, 20 …
func niceStep(at float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(at)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= at {
			return factor * power
		}
	}
	return 10 * power
}

// y is where a value stands, from the top; what is below the axis stands on it.
func (s scale) y(v float64) float64 {
	part := (v - s.low) / (s.high - s.low)
	if s.log {
		part = math.Log(max(v, s.low)/s.low) / math.Log(s.high/s.low)
	}
	return panelHeight * (1 - min(max(part, 0), 1))
}
