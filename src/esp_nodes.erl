%% Which C-nodes of this VM are up, and which plugins each is to have. An owner
%% comes and goes with its C-node; what must outlive it is here.
-module(esp_nodes).

-behaviour(gen_server).

-export([start_link/0]).
-export([up/2]).
-export([find/1]).
-export([all/0]).
-export([await/2]).
-export([owner/1]).
-export([await_loss/2]).
-export([add_plugin/2]).
-export([plugins/1]).
-export([forget_plugins/2]).
-export([mark_loaded/3]).
-export([is_loaded/2]).
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

%% {{up, Name}, CNode, Owner}, {{plugins, Name}, [Plugin]},
%% {{loaded, Name, Plugin}, Owner}
-define(TABLE, ?MODULE).

-record(state, {
    owners = #{} :: #{reference() => atom()},
    waiting = [] :: [{atom(), reference(), gen_server:from()}]
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The calling owner's C-node is ready.
-spec up(atom(), node()) -> ok.
up(Name, CNode) ->
    gen_server:call(?MODULE, {up, Name, CNode}, infinity).

-spec find(atom()) -> {ok, node(), Owner :: pid()} | error.
find(Name) ->
    try ets:lookup(?TABLE, {up, Name}) of
        [{_, CNode, Owner}] -> {ok, CNode, Owner};
        [] -> error
    catch
        error:badarg -> error
    end.

%% @doc Those that are up.
-spec all() -> [{atom(), node()}].
all() ->
    try
        [{Name, CNode} || [Name, CNode] <- ets:match(?TABLE, {{up, '$1'}, '$2', '_'})]
    catch
        error:badarg -> []
    end.

-spec await(atom(), timeout()) -> {ok, node(), Owner :: pid()} | {error, term()}.
await(Name, Timeout) ->
    case find(Name) of
        {ok, _, _} = Found ->
            Found;
        error ->
            Ticket = make_ref(),
            try
                gen_server:call(?MODULE, {await, Name, Ticket}, Timeout)
            catch
                exit:{timeout, _} ->
                    gen_server:cast(?MODULE, {cancel, Ticket}),
                    {error, {not_up, Name}};
                exit:{noproc, _} ->
                    {error, {not_started, erlangsp}}
            end
    end.

%% @doc Of the C-node that is up; `undefined' if it is none of this VM's.
-spec owner(atom()) -> pid() | undefined.
owner(Name) ->
    case find(Name) of
        {ok, _CNode, Owner} -> Owner;
        error -> undefined
    end.

%% @doc Somebody found the C-node gone: waits until its owner knows, too.
-spec await_loss(Owner :: pid() | undefined, timeout()) -> ok.
await_loss(undefined, _Timeout) ->
    ok;
await_loss(Owner, Timeout) ->
    Ref = monitor(process, Owner),
    receive
        {'DOWN', Ref, process, _, _} -> gen_server:call(?MODULE, sync, infinity)
    after Timeout -> demonitor(Ref, [flush])
    end,
    ok.

%% @doc Remembers a plugin, so that the next C-node of this name has it too.
-spec add_plugin(atom(), term()) -> ok.
add_plugin(Name, Plugin) ->
    gen_server:call(?MODULE, {add_plugin, Name, Plugin}, infinity).

%% @doc In the order in which they were loaded, each the last time.
-spec plugins(atom()) -> [term()].
plugins(Name) ->
    case ets:lookup(?TABLE, {plugins, Name}) of
        [{_, Plugins}] -> Plugins;
        [] -> []
    end.

%% @doc The next C-node of this name is not to have them.
-spec forget_plugins(atom(), [term()]) -> ok.
forget_plugins(Name, Plugins) ->
    gen_server:call(?MODULE, {forget_plugins, Name, Plugins}, infinity).

-spec mark_loaded(atom(), term(), Owner :: pid()) -> ok.
mark_loaded(Name, Plugin, Owner) ->
    gen_server:call(?MODULE, {loaded, Name, Plugin, Owner}, infinity).

-spec is_loaded(atom(), term()) -> boolean().
is_loaded(Name, Plugin) ->
    case {find(Name), ets:lookup(?TABLE, {loaded, Name, Plugin})} of
        {{ok, _, Owner}, [{_, Owner}]} -> true;
        _ -> false
    end.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    ?TABLE = ets:new(?TABLE, [named_table, protected, {read_concurrency, true}]),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}}.
handle_call({up, Name, CNode}, {Owner, _}, State = #state{owners = Owners, waiting = Waiting}) ->
    ets:insert(?TABLE, {{up, Name}, CNode, Owner}),
    {Ready, Rest} = lists:partition(fun({Each, _, _}) -> Each =:= Name end, Waiting),
    [gen_server:reply(From, {ok, CNode, Owner}) || {_, _, From} <- lists:reverse(Ready)],
    {reply, ok, State#state{
        owners = Owners#{monitor(process, Owner) => Name}, waiting = Rest
    }};
handle_call({await, Name, Ticket}, From, State = #state{waiting = Waiting}) ->
    case find(Name) of
        {ok, _, _} = Found -> {reply, Found, State};
        error -> {noreply, State#state{waiting = [{Name, Ticket, From} | Waiting]}}
    end;
handle_call({add_plugin, Name, Plugin}, _From, State) ->
    ets:insert(?TABLE, {{plugins, Name}, lists:delete(Plugin, plugins(Name)) ++ [Plugin]}),
    {reply, ok, State};
handle_call({forget_plugins, Name, Plugins}, _From, State) ->
    ets:insert(?TABLE, {{plugins, Name}, plugins(Name) -- Plugins}),
    lists:foreach(fun(Plugin) -> ets:delete(?TABLE, {loaded, Name, Plugin}) end, Plugins),
    {reply, ok, State};
handle_call({loaded, Name, Plugin, Owner}, _From, State) ->
    ets:insert(?TABLE, {{loaded, Name, Plugin}, Owner}),
    {reply, ok, State};
handle_call(sync, _From, State) ->
    {reply, ok, State};
handle_call(Request, _From, State) ->
    {reply, {error, {unknown_request, Request}}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({cancel, Ticket}, State = #state{waiting = Waiting}) ->
    {noreply, State#state{waiting = lists:keydelete(Ticket, 2, Waiting)}};
handle_cast(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Ref, process, Owner, _Reason}, State = #state{owners = Owners}) ->
    case maps:take(Ref, Owners) of
        {Name, Owners2} ->
            %% unless the next owner is up already
            ets:match_delete(?TABLE, {{up, Name}, '_', Owner}),
            {noreply, State#state{owners = Owners2}};
        error ->
            {noreply, State}
    end;
handle_info(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.
