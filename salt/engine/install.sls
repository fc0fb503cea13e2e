# engine/install.sls: the account of the engine and the folders of its root.
# Pillar: engine:{user,group,owner,root,config:engine:data_dir}. Releases, `current` and `previous` are not made here:
# `unpack` and `reload` do that.
#
# The account may write its store and its sockets, nothing else: neither its configuration nor its own code.
{%- from "engine/map.jinja" import engine, shared, data_dir, is_data_inside with context %}

engine-install-group-present:
  group.present:
    - name: {{ engine.group | json }}
    - system: true

engine-install-user-present:
  user.present:
    - name: {{ engine.user | json }}
    - gid: {{ engine.group | json }}
    - system: true
    - home: {{ engine.root | json }}
    - createhome: false
    - shell: /usr/sbin/nologin
    - fullname: Purgeline
    - require:
      - group: engine-install-group-present

# Name, owner, mode. `cache` has what is brought to the host, `shared` what outlives a release.
{%- set owned = [
    ("root", engine.root, engine.owner, "0755"),
    ("releases", engine.root ~ "/releases", engine.owner, "0755"),
    ("cache", engine.root ~ "/cache", engine.owner, "0700"),
    ("shared", shared, engine.owner, "0755"),
    ("run", shared ~ "/run", engine.user, "0750"),
] %}
{%- set is_data_made = is_data_inside or not salt["file.directory_exists"](data_dir) %}
{%- if is_data_made %}
{%- do owned.append(("data", data_dir, engine.user, "0750")) %}
{%- endif %}
{%- for name, path, owner, mode in owned %}

engine-install-file-directory-{{ name }}:
  file.directory:
    - name: {{ path | json }}
    - user: {{ owner | json }}
    - group: {{ (engine.group if owner == engine.user else "root" if owner == "root" else none) | json }}
    - mode: {{ mode | json }}
    - makedirs: true
    - require:
      - user: engine-install-user-present
{%- endfor %}
{%- if not is_data_made %}

# A folder outside the root is somebody else's: it is made where it is missing, and otherwise left as it is.
engine-install-test-show-notification:
  test.show_notification:
    - text: >-
        {{ data_dir }} is outside {{ engine.root }} and stays as it is; {{ engine.user }} has to be able to write there.
{%- endif %}
