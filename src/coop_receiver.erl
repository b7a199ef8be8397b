%% Where the results of a co-op go, as a node of its last tier sees it: the
%% node's out edge 0. A co-op gives credit as any edge does. A plain process
%% cannot, so {@link coop_meter} of its VM looks at its queue and grants for
%% it; where no `erlangsp' runs, results go out unmetered.
-module(coop_receiver).

-export([none/0]).
-export([attach/4]).
-export([handle/3]).
-export([is_ours/2]).
-export([info/1]).
-export([ask/4]).

-type destination() ::
    none | {pid, pid()} | {name, atom(), node()} | {coop, pid()} | {demand, pid()}.
-record(receiver, {
    monitor :: undefined | reference(),
    to :: undefined | pid() | {atom(), node()},
    kind = none :: none | coop | metered | unmetered | demand | gone
}).
-opaque receiver() :: #receiver{}.
-export_type([receiver/0, destination/0]).

-spec none() -> receiver().
none() ->
    #receiver{}.

%% @doc No credit is there yet, so results wait until the other side answers.
-spec attach(destination(), pos_integer(), coop_results:batch(), coop_edges:edges()) ->
    {coop_results:sink(), receiver(), coop_edges:edges()}.
attach(none, _Window, _Batch, Edges) ->
    {none, none(), Edges};
attach({demand, Pid}, _Window, _Batch, Edges) ->
    {{demand, Pid}, #receiver{to = Pid, kind = demand}, Edges};
attach({coop, Head}, _Window, _Batch, Edges) ->
    Monitor = monitor(process, Head),
    Head ! {'$coop', attach, self(), 0, edge},
    {
        {edge, 0},
        #receiver{monitor = Monitor, to = Head, kind = coop},
        coop_edges:add_out(0, Head, 0, Edges)
    };
attach({pid, Pid}, Window, Batch, Edges) ->
    meter(Pid, {coop_meter, node(Pid)}, Window, Batch, Edges);
attach({name, Name, Node}, Window, Batch, Edges) ->
    meter({Name, Node}, {coop_meter, Node}, Window, Batch, Edges).

%% Credit comes by halves of the window; two are asked for at first, and one
%% more each time that one is used up.
meter(To, Meter, Window, Batch, Edges) ->
    Half = max(1, Window div 2),
    Queue =
        case Batch of
            none -> Half;
            N -> max(1, Half div N)
        end,
    Monitor = monitor(process, Meter),
    ask(To, Meter, Half, Queue),
    ask(To, Meter, Half, Queue),
    {
        {metered, To, Half},
        #receiver{monitor = Monitor, to = To, kind = metered},
        coop_edges:add_out(0, Meter, 0, Edges)
    }.

%% @doc For so many units, once no more than `Queue' messages wait there.
-spec ask(pid() | {atom(), node()}, pid() | {atom(), node()}, pos_integer(), pos_integer()) -> ok.
ask(To, Meter, Units, Queue) ->
    Meter ! {'$coop', meter, self(), 0, To, Units, Queue},
    ok.

%% @doc A control message about the receiver.
-spec handle(term(), coop_edges:edges(), receiver()) ->
    {sink, coop_results:sink(), coop_edges:edges(), receiver()} | unhandled.
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
