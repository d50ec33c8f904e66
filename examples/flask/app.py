"""A small Flask application, as many begin: one request at a time.

    python3 -m flask --app app run --port 5000 --without-threads
    gunicorn -w 2 -b 127.0.0.1:5000 app:app

Behind Portner it is one line of a Caddyfile: app_proxy 127.0.0.1:5000
"""

import sqlite3
import time

from flask import Flask, render_template_string, request

app = Flask(__name__)

PAGE = """<!doctype html>
<title>News</title>
<ol>
{% for item in items %}
<li><a href="/item/{{ item.id }}">{{ item.title }}</a> <small>{{ item.points }} points</small>
{% endfor %}
</ol>
"""

ITEMS = [{"id": n, "title": f"Story {n} & what came of it", "points": n * 7919 % 311, "age": n} for n in range(1, 8001)]


@app.get("/")
def front():
    """About 3 ms of Python: rank everything, show thirty."""
    ranked = sorted(ITEMS, key=lambda item: (item["points"] - 1) / (item["age"] + 2) ** 1.8, reverse=True)
    return render_template_string(PAGE, items=ranked[:30])


@app.post("/post")
def post():
    """Behind a journal the same write may come twice, with the same key: it is taken in once."""
    with sqlite3.connect("posts.db", timeout=10) as db:  # one transaction: both or nothing
        db.execute("CREATE TABLE IF NOT EXISTS posts (text TEXT)")
        db.execute("CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY)")
        key = request.headers.get("Idempotency-Key")
        if key and db.execute("INSERT OR IGNORE INTO seen VALUES (?)", [key]).rowcount == 0:
            return "taken before"
        db.execute("INSERT INTO posts VALUES (?)", [request.get_data(as_text=True)])
    return "taken", 201


@app.get("/slow")
def slow():
    """A report that waits for somebody else."""
    time.sleep(3)
    return "At last.\n"


@app.get("/status")
def status():
    return "Alive"
