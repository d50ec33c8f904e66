// Folds what answers a comment, and on narrow screens shows which list this is.
// All else on these pages works without a script.
"use strict";

const depth = (li) => Number(li.dataset.depth);

// below are the comments that answer this one, at any depth: the list is flat
// and in reading order.
function below(li) {
	const all = [];
	for (let next = li.nextElementSibling; next && depth(next) > depth(li); next = next.nextElementSibling) all.push(next);
	return all;
}

function fold(button) {
	const li = button.closest("li");
	const folded = li.classList.toggle("folded");
	button.setAttribute("aria-expanded", String(!folded));
	let shownAbove = -1; // depth of a folded comment whose answers stay hidden
	for (const reply of below(li)) {
		if (shownAbove >= 0 && depth(reply) <= shownAbove) shownAbove = -1;
		reply.hidden = folded || shownAbove >= 0;
		if (!folded && shownAbove < 0 && reply.classList.contains("folded")) shownAbove = depth(reply);
	}
	face(button, li, folded);
}

function face(button, li, folded) {
	const n = below(li).length;
	button.textContent = folded ? "+" + (n + 1) : "–";
	button.setAttribute("aria-label", (folded ? "Unfold " : "Fold ") + (n + 1) + (n ? " comments" : " comment"));
}

const thread = document.querySelector(".thread");
if (thread) {
	const model = document.createElement("button");
	model.type = "button";
	model.className = "fold";
	model.textContent = "–";
	model.setAttribute("aria-label", "Fold");
	model.setAttribute("aria-expanded", "true");
	for (const meta of thread.querySelectorAll(".reply > .meta")) meta.append(model.cloneNode(true));
	thread.addEventListener("click", (event) => {
		const button = event.target.closest(".fold");
		if (button) fold(button);
	});
	// Whoever follows a link to a folded comment wants to read it.
	window.addEventListener("hashchange", () => {
		const wanted = document.getElementById(location.hash.slice(1));
		if (!wanted || !wanted.hidden) return;
		for (const button of thread.querySelectorAll(".folded .fold")) fold(button);
		wanted.scrollIntoView();
	});
}

const here = document.querySelector(".lists [aria-current]");
if (here) here.scrollIntoView({ block: "nearest", inline: "nearest" });
