%% Credit of the heads that this VM relays to, remote and local. Taking some of
%% what is there is a look into a table and one atomic operation, in the
%% caller. Only a caller that finds none, or others waiting before it, asks the
%% server, and waits there, first come first served.
%%
%% Credit counts bytes, so that a connection never holds more data of ours for
%% one head than the head granted.
-module(coop_credit).

-behaviour(gen_server).

-export([start_link/0]).
-export([send/5]).
-export([cost/1]).
-export([most/1]).
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-define(TABLE, ?MODULE).
%% What a small datum takes on its way is more than its bytes.
-define(SMALLEST, 256).
-define(LARGEST, 128 * 1024 * 1024).
%% A pid that has not answered by then belongs to no head.
-define(ATTACH_TIMEOUT, 10_000).
%% Slots of a lane's atomics.
-define(CREDIT, 1).
-define(WAITING, 2).
%% The head says that too much waits there.
-define(OVER, 3).
%% Data refused that the head has not heard of.
-define(REFUSED, 4).
%% Between two words to it of that, in milliseconds.
-define(REPORT, 100).

-type lane() :: relay | priority.
-type key() :: {pid(), lane()}.
-type error() :: {error, overloaded | noproc | noconnection | timeout | {not_started, erlangsp}}.
-record(waiter, {
    from :: gen_server:from(),
    ticket :: reference(),
    units :: pos_integer(),
    data :: pos_integer(),
    monitor :: reference()
}).
-record(lane, {
    key :: key(),
    edge :: pos_integer(),
    window = 0 :: non_neg_integer(),
    head_edge = 0 :: non_neg_integer(),
    atomics :: undefined | atomics:atomics_ref(),
    rule = block :: block | shed,
    waiters = queue:new() :: queue:queue(#waiter{})
}).
-record(state, {
    edges = #{} :: #{pos_integer() => key()},
    lanes = #{} :: #{key() => #lane{}},
    %% monitors of heads, and of callers between the grant and their word that
    %% the datum is on its way
    heads = #{} :: #{pid() => reference()},
    granted = #{} :: #{reference() => {reference(), key(), pos_integer()}},
    callers = #{} :: #{reference() => {reference(), key()}},
    next_edge = 1 :: pos_integer()
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc What a datum costs: its bytes in the external format.
-spec cost(term()) -> {ok, pos_integer()} | {error, too_large}.
cost(Datum) when is_float(Datum) ->
    {ok, ?SMALLEST};
cost(Datum) when is_integer(Datum), Datum < 1 bsl 256, Datum > -(1 bsl 256) ->
    {ok, ?SMALLEST};
cost(Datum) ->
    case erlang:external_size(Datum) of
        Size when Size > ?LARGEST -> {error, too_large};
        Size -> {ok, max(?SMALLEST, Size)}
    end.

%% @doc Sends data to a head, in order, once there is credit for all of them.
-spec send(pid(), lane(), coop_process:env(), [{term(), pos_integer()}], timeout()) -> ok | error().
send(Head, Lane, Env, Data, Timeout) ->
    case node(Head) =:= node() andalso not is_process_alive(Head) of
        %% sooner than the server hears of it
        true -> {error, noproc};
        false -> send_to(Head, Lane, Env, Data, Timeout)
    end.

send_to(Head, Lane, Env, Data, Timeout) ->
    Units = total(Data),
    case ets_lookup({Head, Lane}) of
        [{_Key, Most, HeadEdge, Atomics, Rule}] ->
            Charge = min(Units, Most),
            case may_take(Lane, Rule, Atomics) andalso take(Atomics, Charge) of
                true -> deliver(Head, Lane, HeadEdge, Env, Data, Charge);
                false when Rule =:= shed -> refuse({Head, Lane}, Atomics, length(Data));
                false -> wait(Head, Lane, Env, Data, Units, Timeout)
            end;
        _ ->
            wait(Head, Lane, Env, Data, Units, Timeout)
    end.

may_take(_Lane, block, Atomics) -> atomics:get(Atomics, ?WAITING) =:= 0;
may_take(relay, shed, Atomics) -> atomics:get(Atomics, ?OVER) =:= 0;
may_take(priority, shed, _Atomics) -> true.

%% The first to be refused for a while has the server tell the head how many
%% they were.
refuse(Key, Atomics, N) ->
    case atomics:add_get(Atomics, ?REFUSED, N) of
        N -> coop_token:aside(fun() -> gen_server:cast(?MODULE, {refused, Key}) end);
        _ -> ok
    end,
    {error, overloaded}.

total([{_Datum, Cost}]) -> Cost;
total(Data) -> lists:sum([Cost || {_Datum, Cost} <- Data]).

ets_lookup(Key) ->
    try
        ets:lookup(?TABLE, Key)
    catch
        error:badarg -> []
    end.

take(Atomics, Units) ->
    take(Atomics, Units, atomics:get(Atomics, ?CREDIT)).

take(Atomics, Units, Credit) when Credit >= Units ->
    case atomics:compare_exchange(Atomics, ?CREDIT, Credit, Credit - Units) of
        ok -> true;
        Changed -> take(Atomics, Units, Changed)
    end;
take(_Atomics, _Units, _Credit) ->
    false.

%% A datum carries what it was charged, which is less than its cost if that is
%% more than most/1; several go in one message.
deliver(Head, Lane, HeadEdge, Env, [{Datum, _Cost}], Charge) ->
    Head ! {'$coop', kind(Lane), HeadEdge, Charge, Env, Datum},
    ok;
deliver(Head, relay, HeadEdge, Env, Data, Charge) ->
    Head ! {'$coop', batch, HeadEdge, Charge, Env, [Datum || {Datum, _Cost} <- Data]},
    ok.

kind(relay) -> data;
kind(priority) -> priority.

wait(Head, Lane, Env, Data, Units, Timeout) ->
    Ticket = make_ref(),
    Request = {take, Ticket, {Head, Lane}, Units, length(Data)},
    case coop_token:aside(fun() -> ask(Request, Timeout) end) of
        {ok, HeadEdge, Charge} ->
            ok = deliver(Head, Lane, HeadEdge, Env, Data, Charge),
            coop_token:aside(fun() -> gen_server:cast(?MODULE, {sent, Ticket}) end);
        {error, _} = Error ->
            Error
    end.

ask({take, Ticket, Key, _, _} = Request, Timeout) ->
    try
        gen_server:call(?MODULE, Request, Timeout)
    catch
        exit:{timeout, _} ->
            gen_server:cast(?MODULE, {cancel, Ticket, Key}),
            {error, timeout};
        exit:{noproc, _} ->
            {error, {not_started, erlangsp}}
    end.

%%% The server

-spec init([]) -> {ok, #state{}}.
init([]) ->
    ?TABLE = ets:new(?TABLE, [named_table, protected, {read_concurrency, true}]),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, {error, term()}, #state{}}.
handle_call({take, Ticket, Key, Units, N}, {Pid, _} = From, State0) ->
    State = attach(Key, State0),
    #lane{waiters = Waiters} = Lane = maps:get(Key, State#state.lanes),
    Waiter = #waiter{
        from = From, ticket = Ticket, units = Units, data = N, monitor = monitor(process, Pid)
    },
    Callers = State#state.callers,
    State2 = State#state{callers = Callers#{Waiter#waiter.monitor => {Ticket, Key}}},
    {noreply, serve(Lane#lane{waiters = queue:in(Waiter, Waiters)}, State2)};
handle_call(Request, _From, State) ->
    {reply, {error, {unknown_request, Request}}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({sent, Ticket}, State = #state{granted = Granted, callers = Callers}) ->
    case maps:take(Ticket, Granted) of
        {{Monitor, _Key, _Units}, Granted2} ->
            demonitor(Monitor, [flush]),
            {noreply, State#state{granted = Granted2, callers = maps:remove(Monitor, Callers)}};
        error ->
            {noreply, State}
    end;
handle_cast({refused, Key}, State) ->
    erlang:start_timer(?REPORT, self(), {report, Key}),
    {noreply, State};
handle_cast({cancel, Ticket, Key}, State) ->
    {noreply, forget(Ticket, Key, State)};
handle_cast(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'$coop', credit, Edge, Units}, State = #state{edges = Edges, lanes = Lanes}) ->
    case Edges of
        #{Edge := Key} -> {noreply, add(maps:get(Key, Lanes), Units, State)};
        %% of a head that is gone
        #{} -> {noreply, State}
    end;
handle_info({'$coop', attached, Edge, HeadEdge, Units, Rule}, State = #state{edges = Edges}) ->
    case Edges of
        #{Edge := Key} -> {noreply, attached(Key, HeadEdge, Units, Rule, State)};
        #{} -> {noreply, State}
    end;
handle_info({'$coop', overload, Edge, IsOver}, State = #state{edges = Edges, lanes = Lanes}) ->
    case Edges of
        #{Edge := Key} ->
            #lane{atomics = Atomics} = maps:get(Key, Lanes),
            atomics:put(Atomics, ?OVER, case IsOver of true -> 1; false -> 0 end);
        #{} ->
            ok
    end,
    {noreply, State};
handle_info({timeout, _Timer, {report, {Head, _} = Key}}, State = #state{lanes = Lanes}) ->
    case Lanes of
        #{Key := #lane{atomics = Atomics, head_edge = HeadEdge}} ->
            Head ! {'$coop', shed, HeadEdge, atomics:exchange(Atomics, ?REFUSED, 0)},
            ok;
        #{} ->
            ok
    end,
    {noreply, State};
handle_info({timeout, _Timer, {attach, Edge}}, State = #state{edges = Edges, lanes = Lanes}) ->
    case Edges of
        #{Edge := {Head, _} = Key} ->
            case maps:get(Key, Lanes) of
                #lane{atomics = undefined} -> {noreply, lost(Head, noproc, State)};
                #lane{} -> {noreply, State}
            end;
        #{} ->
            {noreply, State}
    end;
handle_info({'DOWN', Ref, process, Pid, Reason}, State = #state{heads = Heads, callers = Callers}) ->
    case {Heads, Callers} of
        {#{Pid := Ref}, _} when Reason =:= noconnection ->
            {noreply, lost(Pid, noconnection, State)};
        {#{Pid := Ref}, _} ->
            {noreply, lost(Pid, noproc, State)};
        {_, #{Ref := {Ticket, Key}}} ->
            {noreply, forget(Ticket, Key, State)};
        _ ->
            {noreply, State}
    end;
handle_info(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.

attach(Key, State = #state{lanes = Lanes}) when is_map_key(Key, Lanes) ->
    State;
attach({Head, Lane} = Key, State = #state{lanes = Lanes, heads = Heads, edges = Edges}) ->
    Edge = State#state.next_edge,
    Heads2 =
        case Heads of
            #{Head := _} -> Heads;
            #{} -> Heads#{Head => monitor(process, Head)}
        end,
    Head ! {'$coop', attach, self(), Edge, Lane},
    erlang:start_timer(?ATTACH_TIMEOUT, self(), {attach, Edge}),
    State#state{
        lanes = Lanes#{Key => #lane{key = Key, edge = Edge}},
        edges = Edges#{Edge => Key},
        heads = Heads2,
        next_edge = Edge + 1
    }.

attached(Key, HeadEdge, Window, Rule, State = #state{lanes = Lanes}) ->
    Atomics = atomics:new(4, [{signed, true}]),
    atomics:put(Atomics, ?CREDIT, Window),
    Lane = maps:get(Key, Lanes),
    ets:insert(?TABLE, {Key, most(Window), HeadEdge, Atomics, Rule}),
    Attached = Lane#lane{window = Window, head_edge = HeadEdge, atomics = Atomics, rule = Rule},
    serve(Attached, State).

%% @doc What a datum is charged at most, of such a window. A head gives back by quarters of the window,
%% so that this much always comes together.
-spec most(non_neg_integer()) -> non_neg_integer().
most(Window) ->
    Window - Window div 4.

%% Never beyond the window: a caller killed at the wrong moment may have had its
%% units returned by the head and by us.
add(Lane = #lane{atomics = Atomics, window = Window}, Units, State) ->
    case atomics:add_get(Atomics, ?CREDIT, Units) of
        Credit when Credit > Window -> atomics:sub(Atomics, ?CREDIT, Credit - Window);
        _ -> ok
    end,
    serve(Lane, State).

%% Those who wait, in order, as far as the credit goes.
serve(Lane = #lane{atomics = undefined}, State) ->
    keep(Lane, State);
serve(Lane = #lane{key = Key, atomics = Atomics, window = Window, waiters = Waiters}, State) ->
    case queue:peek(Waiters) of
        {value, #waiter{
            from = From, ticket = Ticket, units = Units, data = Data, monitor = Monitor
        }} ->
            atomics:put(Atomics, ?WAITING, 1),
            Charge = min(Units, most(Window)),
            case take(Atomics, Charge) of
                true ->
                    gen_server:reply(From, {ok, Lane#lane.head_edge, Charge}),
                    Granted = State#state.granted,
                    serve(
                        Lane#lane{waiters = queue:drop(Waiters)},
                        State#state{granted = Granted#{Ticket => {Monitor, Key, Charge}}}
                    );
                false when Lane#lane.rule =:= shed ->
                    gen_server:reply(From, refuse(Key, Atomics, Data)),
                    demonitor(Monitor, [flush]),
                    serve(Lane#lane{waiters = queue:drop(Waiters)}, State#state{
                        callers = maps:remove(Monitor, State#state.callers)
                    });
                false ->
                    keep(Lane, State)
            end;
        empty ->
            atomics:put(Atomics, ?WAITING, 0),
            keep(Lane, State)
    end.

keep(Lane = #lane{key = Key}, State = #state{lanes = Lanes}) ->
    State#state{lanes = Lanes#{Key => Lane}}.

%% A caller gave up, or died: it leaves the queue, or returns what it was
%% granted and has not sent.
forget(Ticket, Key, State = #state{granted = Granted, lanes = Lanes, callers = Callers}) ->
    case {Granted, Lanes} of
        {#{Ticket := {Monitor, Key, Units}}, #{Key := Lane}} ->
            demonitor(Monitor, [flush]),
            add(Lane, Units, State#state{
                granted = maps:remove(Ticket, Granted), callers = maps:remove(Monitor, Callers)
            });
        {_, #{Key := Lane = #lane{waiters = Waiters}}} ->
            {Gone, Stay} = lists:partition(
                fun(#waiter{ticket = Each}) -> Each =:= Ticket end, queue:to_list(Waiters)
            ),
            Monitors = [Monitor || #waiter{monitor = Monitor} <- Gone],
            lists:foreach(fun(Monitor) -> demonitor(Monitor, [flush]) end, Monitors),
            serve(Lane#lane{waiters = queue:from_list(Stay)}, State#state{
                callers = maps:without(Monitors, Callers)
            });
        _ ->
            State
    end.

%% A head is gone: all who wait hear of it, and nothing is kept.
lost(Head, Reason, State = #state{heads = Heads}) ->
    {Monitor, Heads2} = maps:take(Head, Heads),
    demonitor(Monitor, [flush]),
    lists:foldl(
        fun(Lane, Acc) -> lost_lane({Head, Lane}, Reason, Acc) end,
        State#state{heads = Heads2},
        [relay, priority]
    ).

lost_lane(Key, Reason, State = #state{lanes = Lanes, edges = Edges, granted = Granted}) ->
    case maps:take(Key, Lanes) of
        {#lane{edge = Edge, waiters = Waiters}, Lanes2} ->
            ets:delete(?TABLE, Key),
            Of = maps:filter(fun(_Ticket, {_, Each, _}) -> Each =:= Key end, Granted),
            Monitors =
                [Monitor || #waiter{monitor = Monitor} <- queue:to_list(Waiters)] ++
                    [Monitor || {Monitor, _, _} <- maps:values(Of)],
            lists:foreach(fun(Monitor) -> demonitor(Monitor, [flush]) end, Monitors),
            lists:foreach(
                fun(#waiter{from = From}) -> gen_server:reply(From, {error, Reason}) end,
                queue:to_list(Waiters)
            ),
            State#state{
                lanes = Lanes2,
                edges = maps:remove(Edge, Edges),
                granted = maps:without(maps:keys(Of), Granted),
                callers = maps:without(Monitors, State#state.callers)
            };
        error ->
            State
    end.
