%% Where the results of a co-op go, as a node of its last tier sees it: the
%% node's out edge 0. A co-op gives credit as any edge does. A plain process
%% cannot, so {@link coop_meter} of its VM looks at its queue and grants for
%% it; where no `erlangsp' runs, results go out unmetered.
-module(coop_receiver).

-export([none/0]).
-export([attach/3]).
-export([handle/3]).
-export([is_ours/2]).
-export([info/1]).
-export([ask/3]).

-type destination() :: none | {pid, pid()} | {name, atom(), node()} | {coop, pid()}.
-record(receiver, {
    monitor :: undefined | reference(),
    to :: undefined | pid() | {atom(), node()},
    kind = none :: none | coop | metered | unmetered | gone
}).
-opaque receiver() :: #receiver{}.
-export_type([receiver/0, destination/0]).

-spec none() -> receiver().
none() ->
    #receiver{}.

%% @doc No credit is there yet, so results wait until the other side answers.
-spec attach(destination(), pos_integer(), coop_edges:edges()) ->
    {coop_process:sink(), receiver(), coop_edges:edges()}.
attach(none, _Window, Edges) ->
    {none, none(), Edges};
attach({coop, Head}, _Window, Edges) ->
    Monitor = monitor(process, Head),
    Head ! {'$coop', attach, self(), 0, edge},
    {
        {edge, 0},
        #receiver{monitor = Monitor, to = Head, kind = coop},
        coop_edges:add_out(0, Head, 0, Edges)
    };
attach({pid, Pid}, Window, Edges) ->
    meter(Pid, {coop_meter, node(Pid)}, Window, Edges);
attach({name, Name, Node}, Window, Edges) ->
    meter({Name, Node}, {coop_meter, Node}, Window, Edges).

%% Credit comes by halves of the window; two are asked for at first, and one
%% more each time that one is used up.
meter(To, Meter, Window, Edges) ->
    Half = max(1, Window div 2),
    Monitor = monitor(process, Meter),
    ask(To, Meter, Half),
    ask(To, Meter, Half),
    {
        {metered, To, Half},
        #receiver{monitor = Monitor, to = To, kind = metered},
        coop_edges:add_out(0, Meter, 0, Edges)
    }.

-spec ask(pid() | {atom(), node()}, pid() | {atom(), node()}, pos_integer()) -> ok.
ask(To, Meter, Units) ->
    Meter ! {'$coop', meter, self(), 0, To, Units},
    ok.

%% @doc A control message about the receiver.
-spec handle(term(), coop_edges:edges(), receiver()) ->
    {sink, coop_process:sink(), coop_edges:edges(), receiver()} | unhandled.
handle({'$coop', attached, 0, HeadEdge, Units, _Rule}, Edges, Receiver = #receiver{kind = coop}) ->
    {sink, {edge, HeadEdge}, coop_edges:grant(0, Units, Edges), Receiver};
handle({'DOWN', Ref, process, _, _}, Edges, Receiver = #receiver{monitor = Ref}) ->
    case Receiver of
        #receiver{kind = coop} ->
            %% results are dropped and counted from here on
            {sink, {edge, 0}, coop_edges:drop_out(0, Edges), Receiver#receiver{kind = gone}};
        #receiver{kind = metered, to = To} ->
            Unmetered = Receiver#receiver{kind = unmetered},
            {sink, {send, To}, coop_edges:drop_out(0, Edges), Unmetered}
    end;
handle(_Message, _Edges, _Receiver) ->
    unhandled.

-spec is_ours(reference(), receiver()) -> boolean().
is_ours(Ref, #receiver{monitor = Monitor}) ->
    Ref =:= Monitor.

-spec info(receiver()) -> #{receiver => term()}.
info(#receiver{kind = none}) -> #{};
info(#receiver{kind = Kind, to = To}) -> #{receiver => {Kind, To}}.
