%% Several instances of a template behind one head: the nodes and the edges of one
%% instance after the other, under names that tell them apart. No two are the
%% same, for what is behind the last slash is the instance.
-module(coop_instances).

-export([expand/3]).
-export([base/1]).

%% Each name is an atom for good. As many as coop_flow:unfold/3 makes.
-define(MAX_NODES, 10_000).

%% @doc The nodes keep the template's name as `base': a task knows those
%% downstream of it by that, whichever instance it is in.
-spec expand(pos_integer(), [Node], [Edge]) -> {ok, [Node], [Edge]} | {error, term()} when
    Node :: #{name := atom(), _ => _}, Edge :: {atom(), atom()}.
expand(1, Nodes, Edges) ->
    {ok, Nodes, Edges};
expand(N, Nodes, _Edges) when N * length(Nodes) > ?MAX_NODES ->
    {error, {too_many_nodes, ?MAX_NODES}};
expand(N, Nodes, Edges) ->
    case [Name || #{name := Name} <- Nodes, is_too_long(Name, N)] of
        [] ->
            Instances = lists:seq(1, N),
            Named = [named(Node, I) || I <- Instances, Node <- Nodes],
            {ok, Named, [{name(From, I), name(To, I)} || I <- Instances, {From, To} <- Edges]};
        [Name | _] ->
            {error, {bad_name, Name}}
    end.

named(#{name := Base, used_by := Router} = Node, I) ->
    Node#{name := name(Base, I), base => Base, used_by := name(Router, I)};
named(#{name := Base} = Node, I) ->
    Node#{name := name(Base, I), base => Base}.

name(Base, I) -> list_to_atom(text(Base, I)).

text(Base, I) -> atom_to_list(Base) ++ [$/ | integer_to_list(I)].

is_too_long(Base, N) -> length(text(Base, N)) > 255.

%% @doc The template's name of a node.
-spec base(#{name := atom(), _ => _}) -> atom().
base(#{base := Base}) -> Base;
base(#{name := Name}) -> Name.
